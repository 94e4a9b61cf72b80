"""Calls to progress_service: the results of sessions that have ended."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from chassis.context import Context, service_context
from chassis.errors import ServiceError
from chassis.postgres.outbox import OutboxEvent, event_id
from chassis.rpc.client import Upstream
from chassis.rpc.deliveries import deliver
from chassis.rpc.timestamps import moment_of, timestamp
from protos.progress.v1 import progress_pb2, result_checks_pb2
from session_service.domain.ids import NAMESPACE, SessionId, parse_session_id
from session_service.domain.sessions import Session, SessionKey, counts_as_completed, earned_xp
from session_service.domain.tests import Definition

RESULT_TOPIC = "progress.RecordSessionResult"
RECORD_SESSION_RESULT = "/homeroom.progress.v1.StatisticsService/RecordSessionResult"
FIND_RESULTS = "/homeroom.progress.v1.ResultCheckService/FindResults"
LIST_RESULTS = "/homeroom.progress.v1.ResultCheckService/ListResults"
# What the contract allows in one call.
NAMES_MAX = 500
PAGE_SIZE_MAX = 1000
CHECK_SECONDS_MAX = 5.0


class CountedValues(NamedTuple):
    """What a result has changed in the learner's statistics."""

    completed: bool
    answered: int
    total: int
    answers: int
    correct: int
    passed: bool
    xp: int

    @classmethod
    def of(cls, message: Any) -> CountedValues:
        """The values in a message that has fields of these names."""
        return cls(*(getattr(message, name) for name in cls._fields))

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._asdict().items())


@dataclass(frozen=True, slots=True)
class CountedResult:
    """A result that progress_service has recorded; its session's id is as it was sent."""

    user_id: str
    session_id: str
    values: CountedValues
    recorded_at: datetime

    @property
    def key(self) -> SessionKey | None:
        """The session; None if the id is that of none."""
        session_id = parse_session_id(self.session_id)
        return None if session_id is None else SessionKey(self.user_id, session_id)


@dataclass(frozen=True, slots=True)
class ResultPage:
    """Some recorded results, and whether there are more behind them."""

    results: list[CountedResult]
    more: bool


class ProgressClient:
    """Delivers results."""

    def __init__(self, *, upstream: Upstream) -> None:
        self._upstream = upstream

    async def find_results(
        self, keys: Collection[SessionKey], *, deadline: float
    ) -> dict[SessionKey, CountedResult]:
        """The recorded results of these sessions; a session without one is absent. Raises ServiceError."""
        ordered = sorted(keys)
        found: dict[SessionKey, CountedResult] = {}
        for first in range(0, len(ordered), NAMES_MAX):
            request = result_checks_pb2.FindResultsRequest(
                sessions=[_name(*key) for key in ordered[first : first + NAMES_MAX]]
            )
            response: Any = (
                await self._upstream.call(FIND_RESULTS, request, _checking(FIND_RESULTS, deadline))
            ).message
            counted = (_counted(result) for result in response.results)
            found |= {each.key: each for each in counted if each.key is not None}
        return found

    async def list_results(
        self, *, user_id: str, after: tuple[str, str] | None, limit: int, deadline: float
    ) -> ResultPage:
        """The recorded results behind a user and session, of one learner unless `user_id` is empty.

        Raises ServiceError.
        """
        request = result_checks_pb2.ListResultsRequest(user_id=user_id, page_size=min(limit, PAGE_SIZE_MAX))
        if after is not None:
            request.after.CopyFrom(_name(*after))
        page: Any = (
            await self._upstream.call(LIST_RESULTS, request, _checking(LIST_RESULTS, deadline))
        ).message
        return ResultPage([_counted(result) for result in page.results], more=bool(page.next_page_token))

    async def deliver_results(self, events: list[OutboxEvent]) -> Sequence[ServiceError | None]:
        """Deliver events of RESULT_TOPIC."""
        return await deliver(self._upstream, RECORD_SESSION_RESULT, events)


def result_event(session: Session, definition: Definition, *, traceparent: str) -> OutboxEvent:
    """The event with the result of a closed session: absolute values, the same however often it is sent."""
    return OutboxEvent(
        session.user_id,
        result_event_id(session.session_id),
        RESULT_TOPIC,
        result_of(session, definition).SerializeToString(),
        traceparent,
    )


def result_event_id(session_id: SessionId) -> uuid.UUID:
    """The id of the event with the result of this session."""
    return event_id(NAMESPACE, str(session_id), RESULT_TOPIC)


def result_of(session: Session, definition: Definition) -> progress_pb2.RecordSessionResultRequest:
    """The result of a closed session; raises ValueError for a live one."""
    if session.closed_at is None:
        raise ValueError("a live session has no result")
    return progress_pb2.RecordSessionResultRequest(
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


def _name(user_id: str, session_id: SessionId | str) -> result_checks_pb2.ResultName:
    return result_checks_pb2.ResultName(user_id=user_id, session_id=str(session_id))


def _counted(result: Any) -> CountedResult:
    return CountedResult(
        user_id=result.user_id,
        session_id=result.session_id,
        values=CountedValues.of(result),
        recorded_at=moment_of(result.recorded_at, "recordedAt"),
    )


def _checking(path: str, deadline: float) -> Context:
    seconds = min(CHECK_SECONDS_MAX, deadline - time.monotonic())
    return service_context(path, timeout_seconds=seconds)
