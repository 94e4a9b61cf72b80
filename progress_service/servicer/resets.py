"""homeroom.progress.v1.ResetService: its messages, converted."""

from __future__ import annotations

from chassis.batch import Item
from chassis.rpc.servicing import Handler, keyed
from chassis.rpc.timestamps import timestamp
from progress_service.domain.resets import Reset, ResetOrder, Scope
from progress_service.domain.statistics import UserId
from progress_service.operations.resets import ResetOperations
from progress_service.servicer.counts import shown
from protos.progress.v1 import resets_pb2 as pb

SERVICE = "/homeroom.progress.v1.ResetService"


def handlers(*, operations: ResetOperations) -> list[Handler]:
    """Every method of the service."""
    return [keyed(f"{SERVICE}/ResetProgress", _order, operations.reset_progress, _response)]


def _order(item: Item[pb.ResetProgressRequest]) -> ResetOrder:
    request = item.request
    scope, name = _scope(request.scope)
    return ResetOrder(
        user_id=UserId(request.user_id),
        scope=scope,
        name=name,
        ordered_by=item.user_id,
        reason=request.reason,
    )


def _scope(scope: pb.ResetScope) -> tuple[Scope, str]:
    """The scope and its name; the contract has seen to it that there is exactly one."""
    if scope.specialization:
        return Scope.SPECIALIZATION, scope.specialization
    if scope.course_id:
        return Scope.COURSE, scope.course_id
    return Scope.ALL, ""


def _response(reset: Reset) -> pb.ResetProgressResponse:
    return pb.ResetProgressResponse(
        epoch=reset.epoch,
        reset_at=timestamp(reset.reset_at),
        version=shown(reset.version),
    )
