"""homeroom.progress.v1.ProgressChangeService: its messages, converted."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item
from chassis.errors import ServiceError
from chassis.rpc.servicing import Handler, plain
from progress_service.domain.statistics import UserId
from progress_service.operations.changes import ChangeOperations
from progress_service.servicer.counts import shown
from protos.progress.v1 import changes_pb2 as pb

READ_PROGRESS_CHANGES = "/homeroom.progress.v1.ProgressChangeService/ReadProgressChanges"


def handlers(*, changes: ChangeOperations) -> list[Handler]:
    """Every method of the service."""
    return [plain(READ_PROGRESS_CHANGES, _user_ids, changes.read_changes, _answer)]


def _user_ids(item: Item[pb.ReadProgressChangesRequest]) -> list[UserId]:
    return [UserId(user_id) for user_id in item.request.user_ids]


def _answer(versions: Sequence[int | ServiceError]) -> pb.ReadProgressChangesResponse:
    return pb.ReadProgressChangesResponse(
        learners=[
            pb.ProgressChange(failed=True)
            if isinstance(version, ServiceError)
            else pb.ProgressChange(version=shown(version))
            for version in versions
        ]
    )
