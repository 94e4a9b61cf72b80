"""Adjusting credits, and showing the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chassis.batch import Item, Outcome
from chassis.postgres.isolation import run_isolated
from chassis.rpc.paging import Page
from subscription_service.domain.accounts import ListOwner, invalid_user_reference
from subscription_service.domain.credits import CreditEntry, CreditOrder, operation_known
from subscription_service.domain.entitlements import Standing
from subscription_service.store.accounts import AccountStore
from subscription_service.store.credits import OPERATION_CONSTRAINT, CreditStore
from subscription_service.store.entitlements import EntitlementStore


class CreditOperations:
    def __init__(self, *, store: CreditStore, entitlements: EntitlementStore, accounts: AccountStore) -> None:
        self._store = store
        self._entitlements = entitlements
        self._accounts = accounts

    async def adjust_credits(
        self, items: Sequence[Item[CreditOrder]], render: Callable[[CreditEntry], bytes]
    ) -> list[Outcome]:
        """Carry out each order once per key."""
        return await run_isolated(
            items,
            partial(self._store.adjust_credits, render=render),
            owner_of=lambda item: item.request.user_id,
            meanings={OPERATION_CONSTRAINT: operation_known},
        )

    async def list_entries(self, item: Item[ListOwner], page: Page) -> list[CreditEntry]:
        """The ledger, newest first. Its sum is the balance: due entries are made before the first page.

        Raises:
            ServiceError: INVALID_USER_REFERENCE.
        """
        user_id = item.request.user_id
        standings = await self._entitlements.read_standings([user_id], deadline=item.deadline)
        standing = standings.get(user_id)
        if standing is None:
            known = item.request.also_inactive and await self._accounts.get_accounts(
                [user_id], deadline=item.deadline
            )
            if not known:
                raise invalid_user_reference()
        elif page.after is None:
            await self._settle(standing, deadline=item.deadline)
        return await self._store.list_entries(item, page)

    async def _settle(self, standing: Standing, *, deadline: float) -> None:
        if not standing.credits_due:
            return
        attempt = partial(self._store.settle_credits, deadline=deadline)
        (outcome,) = await run_isolated([standing.user_id], attempt, owner_of=lambda user_id: user_id)
        if outcome is not None:
            raise outcome
