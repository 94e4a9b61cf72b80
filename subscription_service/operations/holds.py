"""Placing, committing and releasing holds, and listing those that are still open."""

from __future__ import annotations

from collections.abc import Sequence

from chassis import failpoints
from chassis.errors import ServiceError
from chassis.postgres.isolation import run_isolated
from subscription_service.domain.holds import Hold, Placement
from subscription_service.operations.refusals import refusal_of
from subscription_service.store.holds import (
    HoldReference,
    HoldStore,
    OpenHoldPosition,
    PlaceOutcome,
    ResolveOutcome,
)


class HoldOperations:
    """Every operation is idempotent by the hold's id, so that it may be run again at any time."""

    def __init__(self, *, store: HoldStore) -> None:
        self._store = store

    async def place_holds(
        self, placements: Sequence[Placement], *, deadline: float
    ) -> list[Hold | ServiceError | None]:
        """Place each, or say why not; None where another open hold of the learner has the subject."""

        async def attempt(some: Sequence[Placement], wait: bool) -> list[PlaceOutcome]:
            return await self._store.place_holds(some, wait=wait, deadline=deadline)

        outcomes = await run_isolated(
            placements, attempt, owner_of=lambda placement: placement.user_id, refusal_of=refusal_of
        )
        failpoints.hit("subscription.after_commit")
        return outcomes

    async def commit_holds(
        self, references: Sequence[HoldReference], *, deadline: float
    ) -> list[Hold | ServiceError]:
        async def attempt(some: Sequence[HoldReference], wait: bool) -> list[ResolveOutcome]:
            return await self._store.commit_holds(some, wait=wait, deadline=deadline)

        outcomes = await run_isolated(
            references, attempt, owner_of=lambda reference: reference.user_id, refusal_of=refusal_of
        )
        failpoints.hit("subscription.after_commit")
        return outcomes

    async def release_holds(
        self, references: Sequence[HoldReference], *, deadline: float
    ) -> list[Hold | ServiceError]:
        async def attempt(some: Sequence[HoldReference], wait: bool) -> list[ResolveOutcome]:
            return await self._store.release_holds(some, wait=wait, deadline=deadline)

        outcomes = await run_isolated(
            references, attempt, owner_of=lambda reference: reference.user_id, refusal_of=refusal_of
        )
        failpoints.hit("subscription.after_commit")
        return outcomes

    async def list_open_holds(
        self,
        *,
        method: str,
        older_than_seconds: float,
        after: OpenHoldPosition | None,
        limit: int,
        deadline: float,
    ) -> list[Hold]:
        return await self._store.list_open_holds(
            method=method,
            older_than_seconds=older_than_seconds,
            after=after,
            limit=limit,
            deadline=deadline,
        )
