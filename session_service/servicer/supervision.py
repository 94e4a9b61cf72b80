"""SupervisionService."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, paged
from chassis.rpc.timestamps import timestamp
from protos.session.v1 import supervision_pb2 as pb
from session_service.domain.timeline import EventKind, TimelineEntry, TimelineRequest
from session_service.operations.supervise import Supervision
from session_service.servicer.session_requests import named_session_id

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


def handlers(*, supervision: Supervision, tokens: PageTokens) -> list[Handler]:
    """What instructors and administrators see of learners' sessions."""
    return [
        paged(
            f"{SERVICE}/GetTimeline",
            _timeline_request,
            supervision.list_timeline,
            _timeline_event,
            position=lambda entry: (entry.version, entry.number),
            tokens=tokens,
        ),
    ]


def _timeline_request(item: Item[pb.GetTimelineRequest]) -> TimelineRequest:
    return TimelineRequest(
        user_id=item.request.user_id or item.user_id, session_id=named_session_id(item.request.session_id)
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
    )
