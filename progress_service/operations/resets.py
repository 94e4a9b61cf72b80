"""ResetProgress: an audited order, and the only thing that lowers progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chassis import failpoints
from chassis.batch import Item, Outcome
from chassis.postgres.isolation import Locked, run_isolated
from progress_service.domain.resets import Reset, ResetOrder
from progress_service.store.resets import ResetStore


class ResetOperations:
    """The operations that reset progress. `wake_relay` is called after a commit with events."""

    def __init__(self, *, store: ResetStore, wake_relay: Callable[[], object]) -> None:
        self._store = store
        self._wake_relay = wake_relay

    async def reset_progress(
        self, items: Sequence[Item[ResetOrder]], render: Callable[[Reset], bytes]
    ) -> list[Outcome]:
        """Carry out these resets, each once per key.

        NOT_FOUND: there is no such specialization or course.
        """

        async def attempt(some: Sequence[Item[ResetOrder]], wait: bool) -> list[Outcome | Locked]:
            return await self._store.reset_progress(some, wait, render=render)

        outcomes = await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
        self._wake_relay()
        await failpoints.hit_async("progress.after_commit")
        return outcomes
