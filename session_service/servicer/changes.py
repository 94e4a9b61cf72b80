"""SessionChangeService."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from chassis.batch import Item
from chassis.errors import ServiceError
from chassis.rpc.servicing import Handler, plain
from chassis.rpc.timestamps import moment_of, timestamp
from protos.session.v1 import changes_pb2 as pb
from session_service.domain.changes import SessionChanges, SessionPosition
from session_service.domain.ids import SessionId
from session_service.operations.read_changes import SessionChangeReads
from session_service.servicer.session_messages import STATES

READ_SESSION_CHANGES = "/homeroom.session.v1.SessionChangeService/ReadSessionChanges"


def handlers(*, reads: SessionChangeReads) -> list[Handler]:
    """What the gateway's event streams ask."""
    return [plain(READ_SESSION_CHANGES, _positions, reads.read_changes, _answer)]


def _positions(item: Item[pb.ReadSessionChangesRequest]) -> list[SessionPosition]:
    return [
        SessionPosition(
            user_id=learner.user_id,
            since=moment_of(learner.since, "since") if learner.HasField("since") else None,
            known={SessionId(uuid.UUID(bytes=each.session_id)): each.version for each in learner.known},
        )
        for learner in item.request.learners
    ]


def _answer(learners: Sequence[SessionChanges | ServiceError]) -> pb.ReadSessionChangesResponse:
    return pb.ReadSessionChangesResponse(learners=map(_changes, learners))


def _changes(changes: SessionChanges | ServiceError) -> pb.SessionChanges:
    if isinstance(changes, ServiceError):
        return pb.SessionChanges(failed=True)
    return pb.SessionChanges(
        as_of=timestamp(changes.as_of),
        sessions=[
            pb.SessionChange(
                session_id=each.session_id.bytes,
                test_id=each.test_id,
                state=STATES[each.state],
                version=each.version,
            )
            for each in changes.sessions
        ],
    )
