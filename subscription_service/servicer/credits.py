"""CreditService: messages to credits and back."""

from __future__ import annotations

from uuid import UUID

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, keyed, paged
from chassis.rpc.timestamps import moment_of, timestamp
from protos.subscription.v1 import credits_pb2 as pb
from subscription_service.domain.accounts import ListOwner
from subscription_service.domain.credits import CreditEntry, CreditOrder, EntryKind
from subscription_service.operations.credits import CreditOperations
from subscription_service.servicer.operation_ids import operation_id

SERVICE = "/homeroom.subscription.v1.CreditService"
_KINDS = {
    EntryKind.GRANT: pb.CreditEntry.GRANT,
    EntryKind.HOLD_COMMITTED: pb.CreditEntry.HOLD_COMMITTED,
    EntryKind.REFUND: pb.CreditEntry.REFUND,
    EntryKind.EXPIRY: pb.CreditEntry.EXPIRY,
    EntryKind.ADJUSTMENT: pb.CreditEntry.ADJUSTMENT,
}


def handlers(*, operations: CreditOperations, tokens: PageTokens) -> list[Handler]:
    """The methods of CreditService."""
    return [
        keyed(
            f"{SERVICE}/AdjustCredits",
            _order,
            operations.adjust_credits,
            lambda entry: pb.AdjustCreditsResponse(entry=_message(entry), balance=entry.balance_after),
        ),
        paged(
            f"{SERVICE}/ListMyCreditEntries",
            _my_ledger,
            operations.list_entries,
            _message,
            position=lambda entry: (entry.entry_number,),
            tokens=tokens,
        ),
        paged(
            f"{SERVICE}/ListCreditEntries",
            _ledger,
            operations.list_entries,
            _message,
            position=lambda entry: (entry.entry_number,),
            tokens=tokens,
        ),
    ]


def _order(item: Item[pb.AdjustCreditsRequest]) -> CreditOrder:
    request = item.request
    return CreditOrder(
        user_id=request.user_id,
        amount=request.amount,
        reason=request.reason,
        expires_at=moment_of(request.expires_at, "expiresAt") if request.HasField("expires_at") else None,
        operation_id=f"adjust:{operation_id(item.claim)}",
        refund_of=UUID(request.refund_hold_id) if request.refund_hold_id else None,
    )


def _my_ledger(item: Item[pb.ListMyCreditEntriesRequest]) -> ListOwner:
    return ListOwner(item.user_id, also_inactive=False)


def _ledger(item: Item[pb.ListCreditEntriesRequest]) -> ListOwner:
    return ListOwner(item.request.user_id, also_inactive=True)


def _message(entry: CreditEntry) -> pb.CreditEntry:
    return pb.CreditEntry(
        entry_id=str(entry.entry_number),
        kind=_KINDS[entry.kind],
        amount=entry.amount,
        reason=entry.reason,
        created_at=timestamp(entry.created_at),
        expires_at=timestamp(entry.expires_at),
        balance_after=entry.balance_after,
    )
