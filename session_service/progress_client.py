"""Calls to progress_service: the results of sessions that have ended."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.errors import ServiceError
from chassis.postgres.outbox import OutboxEvent, event_id
from chassis.rpc.client import Upstream
from chassis.rpc.deliveries import deliver
from chassis.rpc.timestamps import timestamp
from protos.progress.v1 import progress_pb2
from session_service.domain.ids import NAMESPACE
from session_service.domain.sessions import Session, counts_as_completed, earned_xp
from session_service.domain.tests import Definition

RESULT_TOPIC = "progress.RecordSessionResult"
RECORD_SESSION_RESULT = "/homeroom.progress.v1.StatisticsService/RecordSessionResult"


class ProgressClient:
    """Delivers results."""

    def __init__(self, *, upstream: Upstream) -> None:
        self._upstream = upstream

    async def deliver_results(self, events: list[OutboxEvent]) -> Sequence[ServiceError | None]:
        """Deliver events of RESULT_TOPIC."""
        return await deliver(self._upstream, RECORD_SESSION_RESULT, events)


def result_event(session: Session, definition: Definition, *, traceparent: str) -> OutboxEvent:
    """The event with the result of a closed session: absolute values, the same however often it is sent."""
    if session.closed_at is None:
        raise ValueError("a live session has no result")
    result = progress_pb2.RecordSessionResultRequest(
        user_id=session.user_id,
        session_id=str(session.session_id),
        test_id=session.test_id,
        specialization=definition.specialization or "",
        completed=counts_as_completed(session),
        answered=session.answered,
        total=session.total,
        answers=session.answers_given,
        correct=session.answers_correct,
        score=session.score or 0.0,
        passed=session.passed or False,
        xp=earned_xp(session, definition),
        closed_at=timestamp(session.closed_at),
    )
    return OutboxEvent(
        session.user_id,
        event_id(NAMESPACE, str(session.session_id), RESULT_TOPIC),
        RESULT_TOPIC,
        result.SerializeToString(),
        traceparent,
    )
