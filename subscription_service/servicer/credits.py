"""CreditService: messages to credits and back."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC
from typing import Any

from chassis.batch import Item, Reply
from chassis.errors import ServiceError
from protos.subscription.v1 import credits_pb2 as pb
from subscription_service.domain.credits import CreditEntry, CreditOrder, EntryKind
from subscription_service.operations.credits import CreditOperations
from subscription_service.servicer.batches import deadline_of, keyed, operation_id, timestamp
from subscription_service.servicer.paging import make_token, number_in, page_size

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
        async def mine(
            item: Item[pb.ListMyCreditEntriesRequest],
        ) -> Reply[pb.ListMyCreditEntriesResponse] | ServiceError:
            page = await self._page(item, item.call.user_id, of_inactive=False)
            if isinstance(page, ServiceError):
                return page
            entries, token = page
            return Reply(pb.ListMyCreditEntriesResponse(entries=entries, next_page_token=token))

        return list(await asyncio.gather(*map(mine, batch)))

    async def ListCreditEntries(
        self, batch: list[Item[pb.ListCreditEntriesRequest]]
    ) -> list[Reply[pb.ListCreditEntriesResponse] | ServiceError]:
        async def of_learner(
            item: Item[pb.ListCreditEntriesRequest],
        ) -> Reply[pb.ListCreditEntriesResponse] | ServiceError:
            page = await self._page(item, item.request.user_id, of_inactive=True)
            if isinstance(page, ServiceError):
                return page
            entries, token = page
            return Reply(pb.ListCreditEntriesResponse(entries=entries, next_page_token=token))

        return list(await asyncio.gather(*map(of_learner, batch)))

    async def _page(
        self, item: Item[Any], user_id: str, *, of_inactive: bool
    ) -> tuple[list[pb.CreditEntry], str] | ServiceError:
        limit = page_size(item.request.page_size)
        try:
            entries = await self._operations.list_entries(
                user_id=user_id,
                before=number_in(item.request.page_token),
                limit=limit,
                of_inactive=of_inactive,
                deadline=item.call.deadline,
            )
        except ServiceError as error:
            return error
        token = make_token(entries[-1].entry_number) if len(entries) == limit else ""
        return [_message(entry) for entry in entries], token


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
