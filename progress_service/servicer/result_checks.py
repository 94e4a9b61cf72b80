"""homeroom.progress.v1.ResultCheckService: its messages, converted."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, PlainOperation, paged, plain
from chassis.rpc.timestamps import timestamp
from progress_service.domain.result_checks import RecordedResult, ResultsQuery
from progress_service.domain.statistics import ResultKey, SessionId, UserId
from protos.progress.v1 import result_checks_pb2 as pb

SERVICE = "/homeroom.progress.v1.ResultCheckService"


def handlers(
    *,
    find_results: PlainOperation[Sequence[ResultKey], Sequence[RecordedResult]],
    list_results: PagedOperation[ResultsQuery, RecordedResult],
    tokens: PageTokens,
) -> list[Handler]:
    """The methods of ResultCheckService."""
    return [
        plain(
            f"{SERVICE}/FindResults",
            _keys,
            find_results,
            lambda results: pb.FindResultsResponse(results=map(_message, results)),
        ),
        paged(
            f"{SERVICE}/ListResults",
            _query,
            list_results,
            _message,
            position=lambda result: (result.user_id, result.session_id),
            tokens=tokens,
        ),
    ]


def _keys(item: Item[pb.FindResultsRequest]) -> list[ResultKey]:
    return [_key(name) for name in item.request.sessions]


def _query(item: Item[pb.ListResultsRequest]) -> ResultsQuery:
    request = item.request
    after = _key(request.after) if request.HasField("after") else None
    return ResultsQuery(UserId(request.user_id), after)


def _key(name: pb.ResultName) -> ResultKey:
    return ResultKey(UserId(name.user_id), SessionId(name.session_id))


def _message(result: RecordedResult) -> pb.RecordedResult:
    return pb.RecordedResult(
        user_id=result.user_id,
        session_id=result.session_id,
        completed=result.completed,
        answered=result.answered,
        total=result.total,
        answers=result.answers,
        correct=result.correct,
        passed=result.passed,
        xp=result.xp,
        recorded_at=timestamp(result.recorded_at),
    )
