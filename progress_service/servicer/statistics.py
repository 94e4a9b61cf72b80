"""StatisticsService over protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from chassis.batch import Item, Outcome, Reply
from chassis.errors import FieldViolation, Reason, ServiceError
from progress_service.domain.statistics import SessionId, SessionResult, UserId, Verdict
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import LearnerStats, StatisticsOperations
from protos.progress.v1 import progress_pb2

NAME = progress_pb2.DESCRIPTOR.services_by_name["StatisticsService"].full_name


class StatisticsServicer:
    """homeroom.progress.v1.StatisticsService; each method takes a batch."""

    def __init__(self, *, results: ResultOperations, statistics: StatisticsOperations) -> None:
        self._results = results
        self._statistics = statistics

    async def RecordSessionResult(
        self, batch: list[Item[progress_pb2.RecordSessionResultRequest]]
    ) -> Sequence[Outcome[progress_pb2.RecordSessionResultResponse]]:
        parsed = [_session_result(item.request) for item in batch]
        valid = [result for result in parsed if not isinstance(result, ServiceError)]
        recordings = iter(
            await self._results.record_session_results(valid, deadline=_deadline(batch)) if valid else []
        )
        answers: list[Outcome[progress_pb2.RecordSessionResultResponse]] = []
        for result in parsed:
            outcome = result if isinstance(result, ServiceError) else next(recordings)
            if isinstance(outcome, ServiceError):
                answers.append(outcome)
                continue
            response = progress_pb2.RecordSessionResultResponse(
                recorded=outcome.verdict is Verdict.RECORDED, version=outcome.version
            )
            answers.append(Reply(response))
        return answers

    async def GetStats(
        self, batch: list[Item[progress_pb2.GetStatsRequest]]
    ) -> Sequence[Outcome[progress_pb2.GetStatsResponse]]:
        learners = [UserId(item.call.user_id) for item in batch]
        found = await self._statistics.get_stats(learners, deadline=_deadline(batch))
        return [stats if isinstance(stats, ServiceError) else Reply(_response(stats)) for stats in found]


def _deadline(batch: Sequence[Item[Any]]) -> float:
    """When the last of them stops waiting: a caller in a hurry must not cut its neighbours short."""
    return max(item.call.deadline for item in batch)


def _session_result(request: progress_pb2.RecordSessionResultRequest) -> SessionResult | ServiceError:
    try:
        closed_at = request.closed_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        violation = FieldViolation("closedAt", "must be a time from year 1 to 9999")
        return ServiceError(Reason.INVALID_ARGUMENT, "closedAt is not a time", violations=[violation])
    return SessionResult(
        user_id=UserId(request.user_id),
        session_id=SessionId(request.session_id),
        test_id=request.test_id,
        specialization=request.specialization,
        completed=request.completed,
        answered=request.answered,
        total=request.total,
        answers=request.answers,
        correct=request.correct,
        score=request.score,
        passed=request.passed,
        xp=request.xp,
        closed_at=closed_at,
    )


def _response(stats: LearnerStats) -> progress_pb2.GetStatsResponse:
    totals = stats.statistics
    response = progress_pb2.GetStatsResponse(
        stats=progress_pb2.Stats(
            user_id=totals.user_id,
            completed_sessions=totals.completed_sessions,
            questions_answered=totals.questions_answered,
            answers=totals.answers,
            correct=totals.correct,
            xp=totals.xp,
            streak_days=stats.streak_days,
            version=totals.version,
        )
    )
    if totals.updated_at is not None:
        response.stats.updated_at.FromDatetime(totals.updated_at)
    return response
