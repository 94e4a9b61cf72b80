"""Creating, replacing and listing plans."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.errors import ServiceError
from chassis.postgres.isolation import run_isolated
from subscription_service.domain.plans import Plan
from subscription_service.operations.refusals import refusal_of
from subscription_service.store.plans import PlanStore


class PlanOperations:
    def __init__(self, *, store: PlanStore) -> None:
        self._store = store

    async def put_plans(self, plans: Sequence[Plan], *, deadline: float) -> list[Plan | ServiceError]:
        """Create or replace each; the new limits hold from the next request on."""

        async def attempt(some: Sequence[Plan], _wait: bool) -> Sequence[Plan]:
            await self._store.put_plans(some, deadline=deadline)
            return some

        return await run_isolated(plans, attempt, owner_of=lambda plan: plan.plan_id, refusal_of=refusal_of)

    async def list_plans(self, *, after: str, limit: int, deadline: float) -> list[Plan]:
        return await self._store.list_plans(after=after, limit=limit, deadline=deadline)
