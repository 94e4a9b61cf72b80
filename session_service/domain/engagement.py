"""The engaged time that a test asks for."""

from __future__ import annotations

from chassis.errors import Reason, ServiceError
from session_service.domain.sessions import Session
from session_service.domain.tests import Definition


def engaged_enough(session: Session, definition: Definition) -> bool:
    """Whether the learner was engaged for as long as the test asks."""
    needed = definition.min_engaged_seconds
    return needed is None or session.engaged_seconds >= needed


def require_engagement(session: Session, definition: Definition) -> None:
    """Raise ServiceError with ENGAGEMENT_TOO_LOW unless the learner was engaged for long enough."""
    if not engaged_enough(session, definition):
        raise ServiceError(
            Reason.ENGAGEMENT_TOO_LOW,
            f"This test needs {definition.min_engaged_seconds} seconds of engaged time, "
            f"and the session has {session.engaged_seconds:g}",
            metadata={
                "neededSeconds": definition.min_engaged_seconds,
                "engagedSeconds": session.engaged_seconds,
            },
        )
