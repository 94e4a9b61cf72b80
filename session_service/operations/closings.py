"""The events that tell the other services how a session has ended."""

from __future__ import annotations

from chassis.postgres.outbox import OutboxEvent
from session_service.domain.sessions import Session, spends_hold
from session_service.domain.tests import Definition
from session_service.progress_client import result_event
from session_service.subscription_client import commit_event, release_event


def closing_events(session: Session, definition: Definition, *, traceparent: str) -> list[OutboxEvent]:
    """A session that counts commits its hold and sends its result; any other one releases its hold."""
    if not spends_hold(session):
        return [release_event(session.hold, traceparent=traceparent)]
    return [
        commit_event(session.hold, traceparent=traceparent),
        result_event(session, definition, traceparent=traceparent),
    ]
