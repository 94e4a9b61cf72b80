"""homeroom.progress.v1.StatisticsService: its messages, converted."""

from __future__ import annotations

from chassis.batch import Item
from chassis.rpc.servicing import Handler, plain
from chassis.rpc.timestamps import moment_of, timestamp
from progress_service.domain.statistics import Recording, SessionId, SessionResult, UserId, Verdict
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import LearnerStats, StatisticsOperations
from progress_service.servicer.counts import shown
from protos.progress.v1 import progress_pb2

SERVICE = "/homeroom.progress.v1.StatisticsService"
GET_STATS = f"{SERVICE}/GetStats"
RECORD_SESSION_RESULT = f"{SERVICE}/RecordSessionResult"


def handlers(*, results: ResultOperations, statistics: StatisticsOperations) -> list[Handler]:
    """Every method of the service."""
    return [
        plain(GET_STATS, lambda item: UserId(item.user_id), statistics.get_stats, _stats_response),
        plain(RECORD_SESSION_RESULT, _session_result, results.record_session_results, _recorded_response),
    ]


def _session_result(item: Item[progress_pb2.RecordSessionResultRequest]) -> SessionResult:
    request = item.request
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
        closed_at=moment_of(request.closed_at, "closedAt"),
    )


def _recorded_response(recording: Recording) -> progress_pb2.RecordSessionResultResponse:
    return progress_pb2.RecordSessionResultResponse(
        recorded=recording.verdict is Verdict.RECORDED, version=shown(recording.version)
    )


def _stats_response(stats: LearnerStats) -> progress_pb2.GetStatsResponse:
    totals = stats.statistics
    return progress_pb2.GetStatsResponse(
        stats=progress_pb2.Stats(
            user_id=totals.user_id,
            enrolled=shown(totals.enrolled),
            completed_lessons=shown(totals.completed_lessons),
            completed_sessions=shown(totals.completed_sessions),
            questions_answered=shown(totals.questions_answered),
            answers=shown(totals.answers),
            correct=shown(totals.correct),
            xp=shown(totals.xp),
            streak_days=stats.streak_days,
            version=shown(totals.version),
            updated_at=timestamp(totals.updated_at),
        )
    )
