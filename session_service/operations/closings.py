"""What the other services are told when a session has ended."""

from __future__ import annotations

from chassis.postgres.outbox import OutboxEvent
from session_service.domain.sessions import Session, has_result, spends_hold
from session_service.domain.tests import Definition
from session_service.progress_client import result_event
from session_service.subscription_client import commit_event, release_event


def closing_events(session: Session, definition: Definition, *, traceparent: str) -> list[OutboxEvent]:
    """What becomes of the closed session's hold, and its result if there is anything to count."""
    resolve = commit_event if spends_hold(session) else release_event
    events = [resolve(session.user_id, session.hold_id, traceparent=traceparent)]
    if has_result(session):
        events.append(result_event(session, definition, traceparent=traceparent))
    return events
