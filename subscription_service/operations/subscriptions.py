"""Moving subscriptions, and telling their history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chassis.batch import Reply
from chassis.errors import ServiceError
from chassis.postgres.isolation import run_isolated
from subscription_service.domain.subscriptions import Subscription, SubscriptionChange, SubscriptionOrder
from subscription_service.operations.refusals import refusal_of
from subscription_service.store.keyed import Keyed, KeyedOutcome
from subscription_service.store.subscriptions import SubscriptionStore


class SubscriptionOperations:
    def __init__(self, *, store: SubscriptionStore) -> None:
        self._store = store

    async def set_subscriptions(
        self,
        orders: Sequence[Keyed[SubscriptionOrder]],
        *,
        render: Callable[[Subscription], bytes],
        deadline: float,
    ) -> list[Reply[Any] | ServiceError]:
        """Carry out each order once per key; the answers are rendered so that they can be repeated."""

        async def attempt(some: Sequence[Keyed[SubscriptionOrder]], wait: bool) -> list[KeyedOutcome]:
            return await self._store.set_subscriptions(some, render=render, wait=wait, deadline=deadline)

        return await run_isolated(
            orders, attempt, owner_of=lambda keyed: keyed.order.user_id, refusal_of=refusal_of
        )

    async def list_changes(
        self, *, user_id: str, before: int | None, limit: int, deadline: float
    ) -> list[SubscriptionChange]:
        return await self._store.list_changes(user_id=user_id, before=before, limit=limit, deadline=deadline)
