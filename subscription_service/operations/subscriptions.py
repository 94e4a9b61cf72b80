"""Moving subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chassis.batch import Item, Outcome
from chassis.postgres.isolation import run_isolated
from subscription_service.domain.subscriptions import Subscription, SubscriptionOrder
from subscription_service.store.subscriptions import SubscriptionStore


class SubscriptionOperations:
    def __init__(self, *, store: SubscriptionStore) -> None:
        self._store = store

    async def set_subscriptions(
        self, items: Sequence[Item[SubscriptionOrder]], render: Callable[[Subscription], bytes]
    ) -> list[Outcome]:
        """Carry out each order once per key."""
        attempt = partial(self._store.set_subscriptions, render=render)
        return await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
