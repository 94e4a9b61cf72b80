"""HoldService: messages to holds and back."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from chassis.batch import Item, Reply
from chassis.errors import ServiceError
from protos.subscription.v1 import holds_pb2
from subscription_service.domain.holds import Hold, HoldState, Placement
from subscription_service.operations.holds import HoldOperations
from subscription_service.servicer.batches import deadline_of, replies
from subscription_service.servicer.paging import Position, pages, read_token, token_refused
from subscription_service.store.holds import HoldReference, OpenHoldPosition

_STATES = {
    HoldState.OPEN: holds_pb2.Hold.OPEN,
    HoldState.COMMITTED: holds_pb2.Hold.COMMITTED,
    HoldState.RELEASED: holds_pb2.Hold.RELEASED,
}


class HoldServicer:
    def __init__(self, *, operations: HoldOperations) -> None:
        self._operations = operations

    async def PlaceHold(
        self, batch: list[Item[holds_pb2.PlaceHoldRequest]]
    ) -> list[Reply[holds_pb2.PlaceHoldResponse] | ServiceError]:
        outcomes = await self._operations.place_holds(
            [_placement(item.request) for item in batch], deadline=deadline_of(batch)
        )
        return replies(
            outcomes,
            lambda hold: holds_pb2.PlaceHoldResponse(hold=None if hold is None else _message(hold)),
        )

    async def CommitHold(
        self, batch: list[Item[holds_pb2.CommitHoldRequest]]
    ) -> list[Reply[holds_pb2.CommitHoldResponse] | ServiceError]:
        outcomes = await self._operations.commit_holds(
            [HoldReference(item.request.user_id, UUID(item.request.hold_id)) for item in batch],
            deadline=deadline_of(batch),
        )
        return replies(outcomes, lambda hold: holds_pb2.CommitHoldResponse(hold=_message(hold)))

    async def ReleaseHold(
        self, batch: list[Item[holds_pb2.ReleaseHoldRequest]]
    ) -> list[Reply[holds_pb2.ReleaseHoldResponse] | ServiceError]:
        outcomes = await self._operations.release_holds(
            [HoldReference(item.request.user_id, UUID(item.request.hold_id)) for item in batch],
            deadline=deadline_of(batch),
        )
        return replies(outcomes, lambda hold: holds_pb2.ReleaseHoldResponse(hold=_message(hold)))

    async def ListOpenHolds(
        self, batch: list[Item[holds_pb2.ListOpenHoldsRequest]]
    ) -> list[Reply[holds_pb2.ListOpenHoldsResponse] | ServiceError]:
        return await pages(
            batch,
            self._open_holds,
            position=_position,
            render=lambda holds, token: holds_pb2.ListOpenHoldsResponse(
                holds=map(_message, holds), next_page_token=token
            ),
        )

    async def _open_holds(self, item: Item[holds_pb2.ListOpenHoldsRequest], limit: int) -> list[Hold]:
        return await self._operations.list_open_holds(
            method=item.request.method,
            older_than_seconds=item.request.older_than_seconds,
            after=_position_in(item.request.page_token),
            limit=limit,
            deadline=item.call.deadline,
        )


def _placement(request: holds_pb2.PlaceHoldRequest) -> Placement:
    return Placement(
        request.user_id,
        UUID(request.hold_id),
        request.tests,
        request.credits,
        request.subject,
        request.method,
        request.idempotency_key,
    )


def _position(hold: Hold) -> Position:
    return hold.placed_at.astimezone(UTC).isoformat(), hold.user_id, str(hold.hold_id)


def _position_in(token: str) -> OpenHoldPosition | None:
    position = read_token(token, str, str, str)
    if position is None:
        return None
    placed_at, user_id, hold_id = map(str, position)
    try:
        return OpenHoldPosition(datetime.fromisoformat(placed_at), user_id, UUID(hold_id))
    except ValueError:
        raise token_refused() from None


def _message(hold: Hold) -> holds_pb2.Hold:
    message = holds_pb2.Hold(
        user_id=hold.user_id,
        hold_id=str(hold.hold_id),
        state=_STATES[hold.state],
        tests=hold.tests,
        credits=hold.credits,
        subject=hold.subject,
        method=hold.method,
        idempotency_key=hold.idempotency_key,
        day=hold.day.isoformat(),
    )
    message.placed_at.FromDatetime(hold.placed_at)
    return message
