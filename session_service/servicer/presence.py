"""PresenceService."""

from __future__ import annotations

from chassis.batch import Item
from chassis.rpc.servicing import Handler, plain
from chassis.rpc.timestamps import timestamp
from protos.session.v1 import presence_pb2 as pb
from session_service.domain.ids import SessionId
from session_service.domain.presence import Heartbeat, Presence
from session_service.operations.record_presence import SessionPresence
from session_service.servicer.session_messages import STATES
from session_service.servicer.session_requests import named_session_id

SERVICE = "/homeroom.session.v1.PresenceService"
RECORD_HEARTBEAT = f"{SERVICE}/RecordHeartbeat"


def handlers(*, presence: SessionPresence) -> list[Handler]:
    """The signs of life of a learner's sessions."""
    return [
        plain(RECORD_HEARTBEAT, heartbeat_request, presence.record_heartbeats, recorded),
        plain(
            f"{SERVICE}/LeaveSession",
            _left,
            presence.leave_sessions,
            lambda known: pb.LeaveSessionResponse(state=STATES[known.state]),
        ),
    ]


def heartbeat_request(item: Item[pb.RecordHeartbeatRequest]) -> Heartbeat:
    """A heartbeat; raises ServiceError for a malformed session id."""
    message = item.request
    return Heartbeat(named_session_id(message.session_id), message.seq, message.visible)


def _left(item: Item[pb.LeaveSessionRequest]) -> SessionId:
    return named_session_id(item.request.session_id)


def recorded(known: Presence) -> pb.RecordHeartbeatResponse:
    """The answer to a heartbeat."""
    return pb.RecordHeartbeatResponse(
        engaged_seconds=known.engaged_seconds,
        state=STATES[known.state],
        deadline_at=timestamp(known.deadline_at),
        seq=known.seq,
    )
