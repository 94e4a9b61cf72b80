"""Orders to bring learners into step: each becomes a run, and is answered with what the run has done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from chassis.batch import Item, Outcome, Reply, latest_deadline
from chassis.errors import Reason, ServiceError
from chassis.postgres import idempotency
from chassis.postgres.isolation import Locked, run_isolated
from chassis.postgres.refusals import busy
from chassis.rpc.paging import PAGE_SIZE_MAX, Page
from progress_service.domain.sync_runs import Change, Order, Report, Run, RunId, RunState
from progress_service.operations.sync_runs import SyncRuns
from progress_service.store.sync_changes import SyncChangeStore
from progress_service.store.sync_runs import SyncRunStore

ORDERS_AT_ONCE_MAX = 4
# How long the order of a run over all learners waits for its end, before it is answered as it is.
WAIT_SECONDS_MAX = 3.0
# What an answer needs once the waiting is over.
ANSWER_SECONDS = 0.5
LOOK_AGAIN_SECONDS = 0.05
CHANGES_OF_ALL_MAX = 100
CHANGES_OF_A_LEARNER_MAX = PAGE_SIZE_MAX


class SyncOrders:
    """Begins a run for each order, and waits for it.

    The id of a run comes from the key of its order. So an order that is repeated, also after a crash, finds
    the run that it has begun.
    """

    def __init__(
        self,
        *,
        runs: SyncRunStore,
        changes: SyncChangeStore,
        work: SyncRuns,
    ) -> None:
        self._runs = runs
        self._changes = changes
        self._work = work

    async def sync(self, items: Sequence[Item[Order]], render: Callable[[Report], bytes]) -> list[Outcome]:
        """Carry out each order once. The run of one learner is at its end when it is answered.

        An order that cannot end in time is refused as UNAVAILABLE. Its run goes on, and the same key finds
        it.
        """
        stored = await self._changes.find_answers(items, deadline=latest_deadline(items))
        turns = asyncio.Semaphore(ORDERS_AT_ONCE_MAX)

        async def one(item: Item[Order]) -> Outcome:
            if item.claim in stored:
                return idempotency.check(stored[item.claim], item.fingerprint)
            async with turns:
                try:
                    return await self._carry_out(item, render)
                except ServiceError as refusal:
                    return refusal

        outcomes = await asyncio.gather(*map(one, items), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, ServiceError):
                raise outcome  # after all have ended; the batch is bisected then
        return [outcome for outcome in outcomes if isinstance(outcome, Reply | ServiceError)]

    async def get_runs(self, items: Sequence[Item[RunId]]) -> list[Run | ServiceError]:
        """Each of these runs, or NOT_FOUND. Raises what `Database` raises."""
        found = await self._runs.find_all([item.request for item in items], deadline=latest_deadline(items))
        return [found.get(item.request, ServiceError(Reason.NOT_FOUND)) for item in items]

    async def list_changes(self, item: Item[RunId], page: Page) -> list[Change]:
        """The changes of a run, by specialization, then by learner.

        Raises:
            ServiceError: NOT_FOUND.
        """
        if await self._runs.find(item.request, deadline=item.deadline) is None:
            raise ServiceError(Reason.NOT_FOUND)
        return await self._changes.list_changes(item, page)

    async def _carry_out(self, item: Item[Order], render: Callable[[Report], bytes]) -> Outcome:
        order = item.request
        if not await self._runs.begin(order, deadline=item.deadline):
            await self._check_begun(order, deadline=item.deadline)
        if order.user_id:
            await self._work_to_the_end(order.run_id, deadline=item.deadline)
            changes_max = CHANGES_OF_A_LEARNER_MAX
        else:
            self._work.wake()
            await self._wait(order.run_id, deadline=item.deadline)
            changes_max = CHANGES_OF_ALL_MAX

        async def attempt(items: Sequence[Item[Order]], _wait: bool) -> list[Outcome | Locked]:
            return [
                await self._changes.answer(each, changes_max=changes_max, render=render) for each in items
            ]

        (outcome,) = await run_isolated([item], attempt, owner_of=lambda each: each.request.run_id)
        return outcome

    async def _check_begun(self, order: Order, *, deadline: float) -> None:
        """Make sure that the run exists, and that the same order has begun it."""
        run = await self._runs.find(order.run_id, deadline=deadline)
        if run is None:
            raise ServiceError(Reason.RATE_LIMITED, "Too many runs are under way", retry_after_seconds=1.0)
        if run.order != order:
            raise ServiceError(Reason.IDEMPOTENCY_KEY_REUSED)

    async def _work_to_the_end(self, run_id: RunId, *, deadline: float) -> None:
        """Work on a run until it has ended. Raises ServiceError when the time or the other store is out."""
        while not await self._has_ended(run_id, deadline=deadline):
            if deadline - time.monotonic() < ANSWER_SECONDS:
                raise busy("The order is still being carried out; send it again")
            if not await self._work.step(run_id):
                await asyncio.sleep(LOOK_AGAIN_SECONDS)  # another replica is working on it, or it pauses

    async def _wait(self, run_id: RunId, *, deadline: float) -> None:
        give_up_at = min(time.monotonic() + WAIT_SECONDS_MAX, deadline - ANSWER_SECONDS)
        while time.monotonic() < give_up_at and not await self._has_ended(run_id, deadline=deadline):  # noqa: ASYNC110 - any replica may end it
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _has_ended(self, run_id: RunId, *, deadline: float) -> bool:
        run = await self._runs.find(run_id, deadline=deadline)
        return run is None or run.state is RunState.FINISHED
