"""CreditService: messages to credits and back."""

from __future__ import annotations

import uuid
from datetime import UTC
from typing import Any

from chassis.batch import Item, Reply
from chassis.errors import ServiceError
from protos.subscription.v1 import credits_pb2 as pb
from subscription_service.domain.credits import CreditEntry, CreditOrder, EntryKind
from subscription_service.operations.credits import CreditOperations
from subscription_service.servicer.batches import deadline_of, keyed, operation_id, timestamp
from subscription_service.servicer.paging import number_in, pages

_KINDS = {
    EntryKind.GRANT: pb.CreditEntry.GRANT,
    EntryKind.HOLD_COMMITTED: pb.CreditEntry.HOLD_COMMITTED,
    EntryKind.REFUND: pb.CreditEntry.REFUND,
    EntryKind.EXPIRY: pb.CreditEntry.EXPIRY,
    EntryKind.ADJUSTMENT: pb.CreditEntry.ADJUSTMENT,
}


class CreditServicer:
    def __init__(self, *, operations: CreditOperations) -> None:
        self._operations = operations

    async def AdjustCredits(
        self, batch: list[Item[pb.AdjustCreditsRequest]]
    ) -> list[Reply[Any] | ServiceError]:
        return await self._operations.adjust_credits(
            [keyed(item, _order(item)) for item in batch],
            render=lambda entry: pb.AdjustCreditsResponse(
                entry=_message(entry), balance=entry.balance_after
            ).SerializeToString(),
            deadline=deadline_of(batch),
        )

    async def ListMyCreditEntries(
        self, batch: list[Item[pb.ListMyCreditEntriesRequest]]
    ) -> list[Reply[pb.ListMyCreditEntriesResponse] | ServiceError]:
        return await pages(
            batch,
            lambda item, limit: self._entries(item, item.call.user_id, limit, of_inactive=False),
            position=lambda entry: (entry.entry_number,),
            render=lambda entries, token: pb.ListMyCreditEntriesResponse(
                entries=map(_message, entries), next_page_token=token
            ),
        )

    async def ListCreditEntries(
        self, batch: list[Item[pb.ListCreditEntriesRequest]]
    ) -> list[Reply[pb.ListCreditEntriesResponse] | ServiceError]:
        return await pages(
            batch,
            lambda item, limit: self._entries(item, item.request.user_id, limit, of_inactive=True),
            position=lambda entry: (entry.entry_number,),
            render=lambda entries, token: pb.ListCreditEntriesResponse(
                entries=map(_message, entries), next_page_token=token
            ),
        )

    async def _entries(
        self, item: Item[Any], user_id: str, limit: int, *, of_inactive: bool
    ) -> list[CreditEntry]:
        return await self._operations.list_entries(
            user_id=user_id,
            before=number_in(item.request.page_token),
            limit=limit,
            of_inactive=of_inactive,
            deadline=item.call.deadline,
        )


def _order(item: Item[pb.AdjustCreditsRequest]) -> CreditOrder:
    request = item.request
    return CreditOrder(
        user_id=request.user_id,
        amount=request.amount,
        reason=request.reason,
        expires_at=request.expires_at.ToDatetime(UTC) if request.HasField("expires_at") else None,
        operation_id=f"adjust:{operation_id(item.call)}",
        refund_of=uuid.UUID(request.refund_hold_id) if request.refund_hold_id else None,
    )


def _message(entry: CreditEntry) -> pb.CreditEntry:
    return pb.CreditEntry(
        entry_id=str(entry.entry_number),
        kind=_KINDS[entry.kind],
        amount=entry.amount,
        reason=entry.reason,
        created_at=timestamp(entry.created_at),
        expires_at=None if entry.expires_at is None else timestamp(entry.expires_at),
        balance_after=entry.balance_after,
    )
