"""Placing, committing and releasing holds."""

from __future__ import annotations

from collections.abc import Sequence

from chassis import failpoints
from chassis.batch import Item
from chassis.errors import ServiceError
from chassis.postgres.isolation import run_isolated
from subscription_service.domain.holds import Hold, HoldReference, Placed, Placement
from subscription_service.store.holds import HoldStore, PlaceOutcome, ResolveOutcome


class HoldOperations:
    """Every operation is idempotent by the hold's id, so that it may be run again at any time."""

    def __init__(self, *, store: HoldStore) -> None:
        self._store = store

    async def place_holds(self, items: Sequence[Item[Placement]]) -> list[Placed | ServiceError]:
        """Place each, or refuse it."""

        async def attempt(some: Sequence[Item[Placement]], wait: bool) -> list[PlaceOutcome]:
            return await self._store.place_holds(some, wait=wait)

        outcomes = await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
        failpoints.hit("subscription.after_commit")
        return outcomes

    async def commit_holds(self, items: Sequence[Item[HoldReference]]) -> list[Hold | ServiceError]:
        async def attempt(some: Sequence[Item[HoldReference]], wait: bool) -> list[ResolveOutcome]:
            return await self._store.commit_holds(some, wait=wait)

        outcomes = await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
        failpoints.hit("subscription.after_commit")
        return outcomes

    async def release_holds(self, items: Sequence[Item[HoldReference]]) -> list[Hold | ServiceError]:
        async def attempt(some: Sequence[Item[HoldReference]], wait: bool) -> list[ResolveOutcome]:
            return await self._store.release_holds(some, wait=wait)

        outcomes = await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
        failpoints.hit("subscription.after_commit")
        return outcomes
