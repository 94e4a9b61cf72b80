"""Placing, committing and releasing holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from chassis import failpoints
from chassis.batch import Item
from chassis.errors import ServiceError
from chassis.postgres.isolation import Attempt, run_isolated
from subscription_service.domain.holds import Hold, HoldReference, Placed, Placement
from subscription_service.store.holds import HoldStore

R = TypeVar("R", Placement, HoldReference)
Outcome = TypeVar("Outcome", Placed, Hold)


class HoldOperations:
    """Every operation is idempotent by the hold's id, so that it may be run again at any time."""

    def __init__(self, *, store: HoldStore) -> None:
        self._store = store

    async def place_holds(self, items: Sequence[Item[Placement]]) -> list[Placed | ServiceError]:
        """Place each, or refuse it."""
        return await _run(items, self._store.place_holds)

    async def commit_holds(self, items: Sequence[Item[HoldReference]]) -> list[Hold | ServiceError]:
        """Spend the units of each."""
        return await _run(items, self._store.commit_holds)

    async def release_holds(self, items: Sequence[Item[HoldReference]]) -> list[Hold | ServiceError]:
        """Give the units of each back."""
        return await _run(items, self._store.release_holds)


async def _run(items: Sequence[Item[R]], attempt: Attempt[Item[R], Outcome]) -> list[Outcome | ServiceError]:
    outcomes = await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
    failpoints.hit("subscription.after_commit")
    return outcomes
