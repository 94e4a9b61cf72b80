"""HoldService: messages to holds and back."""

from __future__ import annotations

from datetime import UTC
from uuid import UUID

from chassis.batch import Item
from chassis.ids import parse_uuid
from chassis.rpc.paging import PageTokens, Position
from chassis.rpc.servicing import Handler, PagedOperation, paged, plain
from chassis.rpc.timestamps import moment_of, timestamp
from protos.subscription.v1 import holds_pb2 as pb
from subscription_service.domain.holds import (
    Hold,
    HoldPosition,
    HoldReference,
    HoldState,
    OpenHoldsQuery,
    Placed,
    Placement,
)
from subscription_service.operations.holds import HoldOperations

SERVICE = "/homeroom.subscription.v1.HoldService"
_STATES = {
    HoldState.OPEN: pb.Hold.OPEN,
    HoldState.COMMITTED: pb.Hold.COMMITTED,
    HoldState.RELEASED: pb.Hold.RELEASED,
}


def handlers(
    *,
    operations: HoldOperations,
    list_open_holds: PagedOperation[OpenHoldsQuery, Hold],
    tokens: PageTokens,
) -> list[Handler]:
    """The methods of HoldService."""
    return [
        plain(f"{SERVICE}/PlaceHold", _placement, operations.place_holds, _placed),
        plain(
            f"{SERVICE}/CommitHold",
            _reference,
            operations.commit_holds,
            lambda hold: pb.CommitHoldResponse(hold=hold_message(hold)),
        ),
        plain(
            f"{SERVICE}/ReleaseHold",
            _reference,
            operations.release_holds,
            lambda hold: pb.ReleaseHoldResponse(hold=hold_message(hold)),
        ),
        paged(
            f"{SERVICE}/ListOpenHolds",
            _query,
            list_open_holds,
            hold_message,
            position=_position,
            tokens=tokens,
        ),
    ]


def _placement(item: Item[pb.PlaceHoldRequest]) -> Placement:
    request = item.request
    return Placement(
        request.user_id,
        parse_uuid(request.hold_id) or UUID(request.hold_id),
        request.tests,
        request.credits,
        request.subject,
        request.method,
        request.idempotency_key,
    )


def _placed(placed: Placed) -> pb.PlaceHoldResponse:
    return pb.PlaceHoldResponse(
        hold=None if placed.hold is None else hold_message(placed.hold),
        rival=None if placed.rival is None else hold_message(placed.rival),
    )


def _reference(item: Item[pb.CommitHoldRequest | pb.ReleaseHoldRequest]) -> HoldReference:
    return HoldReference(item.request.user_id, UUID(item.request.hold_id))


def _query(item: Item[pb.ListOpenHoldsRequest]) -> OpenHoldsQuery:
    request = item.request
    after = None
    if request.HasField("placed_after"):
        after = HoldPosition(
            moment_of(request.placed_after.placed_at, "placedAfter.placedAt"),
            request.placed_after.user_id,
            UUID(request.placed_after.hold_id),
        )
    return OpenHoldsQuery(request.method, request.older_than_seconds, after)


def _position(hold: Hold) -> Position:
    return hold.placed_at.astimezone(UTC).isoformat(), hold.user_id, str(hold.hold_id)


def hold_message(hold: Hold) -> pb.Hold:
    """The message of a hold."""
    return pb.Hold(
        user_id=hold.user_id,
        hold_id=str(hold.hold_id),
        state=_STATES[hold.state],
        tests=hold.tests,
        credits=hold.credits,
        subject=hold.subject,
        method=hold.method,
        idempotency_key=hold.idempotency_key,
        day=hold.day.isoformat(),
        placed_at=timestamp(hold.placed_at),
    )
