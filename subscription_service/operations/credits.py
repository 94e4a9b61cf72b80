"""Adjusting credits, and showing the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from chassis.batch import Reply
from chassis.errors import ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from subscription_service.domain.accounts import invalid_user_reference
from subscription_service.domain.credits import CreditEntry, CreditOrder, refunded_already
from subscription_service.domain.entitlements import Standing
from subscription_service.operations.refusals import refusal_of
from subscription_service.store.accounts import AccountStore
from subscription_service.store.credits import OPERATION_CONSTRAINT, CreditStore
from subscription_service.store.entitlements import EntitlementStore
from subscription_service.store.keyed import Keyed, KeyedOutcome


class CreditOperations:
    def __init__(self, *, store: CreditStore, entitlements: EntitlementStore, accounts: AccountStore) -> None:
        self._store = store
        self._entitlements = entitlements
        self._accounts = accounts

    async def adjust_credits(
        self,
        orders: Sequence[Keyed[CreditOrder]],
        *,
        render: Callable[[CreditEntry], bytes],
        deadline: float,
    ) -> list[Reply[Any] | ServiceError]:
        """Carry out each order once per key; the answers are rendered so that they can be repeated."""

        async def attempt(some: Sequence[Keyed[CreditOrder]], wait: bool) -> list[KeyedOutcome]:
            return await self._store.adjust_credits(some, render=render, wait=wait, deadline=deadline)

        return await run_isolated(
            orders,
            attempt,
            owner_of=lambda keyed: keyed.order.user_id,
            refusal_of=partial(refusal_of, meanings={OPERATION_CONSTRAINT: refunded_already}),
        )

    async def list_entries(
        self, *, user_id: str, before: int | None, limit: int, of_inactive: bool, deadline: float
    ) -> list[CreditEntry]:
        """The ledger, newest first; it sums to the balance, because what is due is entered beforehand.

        The ledger of an inactive account is shown only if it is asked for as such.

        Raises:
            ServiceError: INVALID_USER_REFERENCE.
        """
        standing = (await self._entitlements.read_standings([user_id], deadline=deadline)).get(user_id)
        if standing is None:
            known = of_inactive and await self._accounts.get_accounts([user_id], deadline=deadline)
            if not known:
                raise invalid_user_reference()
        elif before is None:
            await self._settle(standing, deadline=deadline)
        return await self._store.list_entries(user_id=user_id, before=before, limit=limit, deadline=deadline)

    async def _settle(self, standing: Standing, *, deadline: float) -> None:
        if not standing.credits_due:
            return

        async def attempt(some: Sequence[str], wait: bool) -> list[ServiceError | Locked | None]:
            return await self._store.settle_credits(some, wait=wait, deadline=deadline)

        (outcome,) = await run_isolated(
            [standing.user_id], attempt, owner_of=lambda user_id: user_id, refusal_of=refusal_of
        )
        if outcome is not None:
            raise outcome
