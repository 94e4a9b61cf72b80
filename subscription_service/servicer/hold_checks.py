"""HoldCheckService: messages to holds and back."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chassis.batch import Item
from chassis.rpc.servicing import Handler, PlainOperation, plain
from protos.subscription.v1 import hold_checks_pb2 as pb
from subscription_service.domain.holds import Hold, HoldReference
from subscription_service.servicer.holds import hold_message

SERVICE = "/homeroom.subscription.v1.HoldCheckService"


def handlers(*, find_holds: PlainOperation[Sequence[HoldReference], Sequence[Hold]]) -> list[Handler]:
    """The methods of HoldCheckService."""
    return [plain(f"{SERVICE}/FindHolds", _references, find_holds, _found)]


def _references(item: Item[pb.FindHoldsRequest]) -> list[HoldReference]:
    return [HoldReference(hold.user_id, UUID(hold.hold_id)) for hold in item.request.holds]


def _found(holds: Sequence[Hold]) -> pb.FindHoldsResponse:
    return pb.FindHoldsResponse(holds=[hold_message(hold) for hold in holds])
