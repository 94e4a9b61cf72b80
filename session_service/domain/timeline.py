"""The timeline of a session: what happened in it, in order, and who caused it.

The entries of a session are ordered by its version, then by their number within that version. A session's
version only grows, under the session's lock, so a new entry always comes after all entries that exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.errors import Reason, ServiceError
from session_service.domain.authors import Author
from session_service.domain.ids import SessionId
from session_service.domain.sessions import Session
from session_service.domain.states import SessionState

NOTE_CHARACTERS_MAX = 500
# Entries that one version of a session may have, so that a client that repeats a refused request for ever
# fills no table.
EVENTS_PER_VERSION_MAX = 50


class EventKind(StrEnum):
    STARTED = "started"
    ANSWERED = "answered"
    PAUSED = "paused"
    RESUMED = "resumed"
    COMPLETED = "completed"
    ABANDONED = "abandoned"
    EXPIRED = "expired"
    REFUSED = "refused"


_KIND_OF_MOVE: Mapping[SessionState, EventKind] = {
    SessionState.ACTIVE: EventKind.RESUMED,
    SessionState.PAUSED: EventKind.PAUSED,
    SessionState.COMPLETED: EventKind.COMPLETED,
    SessionState.ABANDONED: EventKind.ABANDONED,
    SessionState.EXPIRED: EventKind.EXPIRED,
}

ENDS = frozenset({EventKind.COMPLETED, EventKind.ABANDONED, EventKind.EXPIRED})

# Refusals that explain to a learner, or to support, why something did not count. The others are mistakes of a
# client, or pass when the request is sent again.
REFUSALS_TOLD = frozenset(
    {
        Reason.ILLEGAL_TRANSITION,
        Reason.SESSION_CLOSED,
        Reason.DEADLINE_PASSED,
        Reason.ENGAGEMENT_TOO_LOW,
        Reason.IDENTITY_LOCKED,
    }
)


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """An entry of a timeline that is kept as a row of its own.

    `version` is the version of the session after it. `reason` is a close reason, or the reason of a refusal;
    `note` is a text for people.
    """

    user_id: str
    session_id: SessionId
    version: int
    kind: EventKind
    happened_at: datetime
    actor_id: str
    request_id: str
    trace_id: str | None
    reason: str = ""
    note: str = ""


def event_of_move(
    before: Session, after: Session, *, author: Author, now: datetime, note: str = ""
) -> SessionEvent | None:
    """The entry of a change of state; None when the state is the same."""
    if after.state is before.state:
        return None
    return _event(
        after,
        _KIND_OF_MOVE[after.state],
        author=author,
        now=now,
        reason=after.close_reason or "",
        note=note[:NOTE_CHARACTERS_MAX],
    )


def event_of_refusal(
    session: Session, refusal: ServiceError, *, author: Author, now: datetime
) -> SessionEvent | None:
    """The entry of a refused request; None when the refusal is not worth an entry."""
    if refusal.reason not in REFUSALS_TOLD:
        return None
    return _event(session, EventKind.REFUSED, author=author, now=now, reason=refusal.reason.name, note="")


def _event(
    session: Session, kind: EventKind, *, author: Author, now: datetime, reason: str, note: str
) -> SessionEvent:
    return SessionEvent(
        user_id=session.user_id,
        session_id=session.session_id,
        version=session.version,
        kind=kind,
        happened_at=now,
        actor_id=author.actor_id,
        request_id=author.request_id,
        trace_id=author.trace_id,
        reason=reason,
        note=note,
    )


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """What a reader of the timeline sees. The fields after `note` are set for an answer only.

    `request_id` is empty in rows of an earlier release, and for what the service did by itself.
    """

    kind: EventKind
    version: int
    number: int
    happened_at: datetime
    actor_id: str
    request_id: str
    trace_id: str | None
    reason: str
    note: str
    question_id: str | None
    attempt: int | None
    choice: str | None
    correct: bool | None
    occurred_at: datetime | None
    occurred_at_clamped: bool | None


@dataclass(frozen=True, slots=True)
class TimelineRequest:
    """Whose session's timeline is wanted."""

    user_id: str
    session_id: SessionId
