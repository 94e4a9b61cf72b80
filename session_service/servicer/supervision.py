"""SupervisionService."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, keyed, paged
from chassis.rpc.timestamps import timestamp
from protos.session.v1 import supervision_pb2 as pb
from session_service.domain.results import LearnerResult
from session_service.domain.sessions import AdministratorClose, ListRequest, Session
from session_service.domain.timeline import EventKind, TimelineEntry, TimelineRequest
from session_service.operations.supervise import Supervision
from session_service.servicer.session_messages import QuestionContents, session_message
from session_service.servicer.session_requests import named_session_id, session_filter

SERVICE = "/homeroom.session.v1.SupervisionService"

_KINDS: Mapping[EventKind, pb.TimelineEvent.Kind] = {
    EventKind.STARTED: pb.TimelineEvent.STARTED,
    EventKind.ANSWERED: pb.TimelineEvent.ANSWERED,
    EventKind.PAUSED: pb.TimelineEvent.PAUSED,
    EventKind.RESUMED: pb.TimelineEvent.RESUMED,
    EventKind.COMPLETED: pb.TimelineEvent.COMPLETED,
    EventKind.ABANDONED: pb.TimelineEvent.ABANDONED,
    EventKind.EXPIRED: pb.TimelineEvent.EXPIRED,
    EventKind.REFUSED: pb.TimelineEvent.REFUSED,
}


def handlers(
    *,
    supervision: Supervision,
    list_sessions: PagedOperation[ListRequest, Session],
    contents: QuestionContents,
    tokens: PageTokens,
) -> list[Handler]:
    """What instructors and administrators see of learners' sessions, and how they end one."""
    return [
        paged(
            f"{SERVICE}/GetTimeline",
            _timeline_request,
            supervision.list_timeline,
            _timeline_event,
            position=lambda entry: (entry.version, entry.number),
            tokens=tokens,
        ),
        paged(
            f"{SERVICE}/ListAccountSessions",
            _list_request,
            list_sessions,
            session_message,
            position=lambda session: (str(session.session_id),),
            tokens=tokens,
        ),
        keyed(
            f"{SERVICE}/CloseAccountSession",
            _close_request,
            supervision.close_sessions,
            lambda session: pb.CloseAccountSessionResponse(session=session_message(session)),
            contents=contents,
        ),
        paged(
            f"{SERVICE}/ListTestResults",
            _test_id,
            supervision.list_results,
            _result,
            position=lambda result: (result.user_id,),
            tokens=tokens,
        ),
    ]


def _timeline_request(item: Item[pb.GetTimelineRequest]) -> TimelineRequest:
    return TimelineRequest(
        user_id=item.request.user_id or item.user_id, session_id=named_session_id(item.request.session_id)
    )


def _list_request(item: Item[pb.ListAccountSessionsRequest]) -> ListRequest:
    return session_filter(item.request.user_id, item.request.state, item.request.test_id)


def _close_request(item: Item[pb.CloseAccountSessionRequest]) -> AdministratorClose:
    return AdministratorClose(
        learner_id=item.request.user_id,
        session_id=named_session_id(item.request.session_id),
        reason=item.request.reason,
    )


def _test_id(item: Item[pb.ListTestResultsRequest]) -> str:
    return item.request.test_id


def _result(result: LearnerResult) -> pb.TestResult:
    return pb.TestResult(
        user_id=result.user_id,
        attempts=result.attempts,
        best_score=result.best_score,
        passed=result.passed,
        engaged_seconds=result.engaged_seconds,
        last_ended_at=timestamp(result.last_ended_at),
    )


def _timeline_event(entry: TimelineEntry) -> pb.TimelineEvent:
    return pb.TimelineEvent(
        kind=_KINDS[entry.kind],
        at=timestamp(entry.happened_at),
        version=entry.version,
        actor_id=entry.actor_id,
        request_id=entry.request_id,
        trace_id=entry.trace_id,
        reason=entry.reason,
        note=entry.note,
        answer=None if entry.question_id is None else _answer(entry),
    )


def _answer(entry: TimelineEntry) -> pb.TimelineEvent.Answer:
    return pb.TimelineEvent.Answer(
        question_id=entry.question_id,
        attempt=entry.attempt,
        choice=entry.choice,
        correct=entry.correct,
        occurred_at=timestamp(entry.occurred_at),
        occurred_at_clamped=entry.occurred_at_clamped,
    )
