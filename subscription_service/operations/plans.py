"""Creating and replacing plans."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item
from chassis.errors import ServiceError
from chassis.postgres.isolation import run_isolated
from subscription_service.domain.plans import Plan
from subscription_service.store.plans import PlanStore


class PlanOperations:
    def __init__(self, *, store: PlanStore) -> None:
        self._store = store

    async def put_plans(self, items: Sequence[Item[Plan]]) -> list[Plan | ServiceError]:
        """Create or replace each; the new limits hold from the next request on."""

        async def attempt(some: Sequence[Item[Plan]], _wait: bool) -> list[Plan]:
            return await self._store.put_plans(some)

        return await run_isolated(items, attempt, owner_of=lambda item: item.request.plan_id)
