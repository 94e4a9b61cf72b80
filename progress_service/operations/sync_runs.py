"""Runs over all learners, in bounded steps that any replica may take, one replica at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

from chassis import failpoints
from chassis.errors import ServiceError
from chassis.process.background import AT_ONCE, step_deadline
from chassis.telemetry.logs import get_logger
from progress_service.domain.desyncs import Direction
from progress_service.domain.sync_runs import Lease, Order, Outcome, RunId, change_for
from progress_service.operations.comparison import ROWS_PER_STRETCH, Scope, StoreComparison
from progress_service.operations.sync_changes import SyncChanges
from progress_service.store.sync_changes import SyncChangeStore
from progress_service.store.sync_runs import SyncRunStore

# No more is compared while so many changes are still to be carried out.
PLANNED_MAX = ROWS_PER_STRETCH
# A run whose step has failed waits for so long: the other store is away, or a learner is locked.
PAUSE_SECONDS = 2.0
CHANGES_PER_PURGE = 1000

log = get_logger(__name__)


class SyncRuns:
    """Works on runs, begins those that are due, and deletes old ones.

    A step first carries out what is planned, then compares the next stretch and plans its changes. Its
    results are committed before the next step, so a run that is interrupted goes on from there, at any
    replica. Changes are carried out with ids and absolute levels, so a step that is repeated changes nothing
    twice.
    """

    def __init__(
        self,
        *,
        runs: SyncRunStore,
        changes: SyncChangeStore,
        comparison: StoreComparison,
        carrying_out: SyncChanges,
        interval: timedelta,
        retention: timedelta,
        age_seconds_min: float,
    ) -> None:
        self._runs = runs
        self._changes = changes
        self._comparison = comparison
        self._carrying_out = carrying_out
        self._interval = interval
        self._retention = retention
        self._age_seconds_min = age_seconds_min
        self._wakes: list[Callable[[], object]] = []

    def at_wake(self, act: Callable[[], object]) -> None:
        """Call `act` at each `wake`; it makes the job run now."""
        self._wakes.append(act)

    def wake(self) -> None:
        """Work now: call this after a run has begun."""
        for act in self._wakes:
            act()

    async def work(self) -> float | None:
        """A job: one step of the run that has waited longest. A run whose step fails delays no other run."""
        lease = await self._runs.lease(None, deadline=step_deadline())
        if lease is None:
            return None
        try:
            await self._work_on(lease)
        except Exception as error:  # about this run; what is about all stops the next lease
            log.warning(
                "sync_step_failed",
                run_id=str(lease.order.run_id),
                problem=repr(error),
                exc_info=None if isinstance(error, ServiceError) else error,
            )
        return AT_ONCE

    async def step(self, run_id: RunId) -> bool:
        """One step of this run; False if it has ended, or if nobody may work on it now.

        Raises ServiceError, and what `Database` raises. After that the run is set aside for PAUSE_SECONDS.
        """
        lease = await self._runs.lease(run_id, deadline=step_deadline())
        if lease is not None:
            await self._work_on(lease)
        return lease is not None

    async def begin_due(self) -> None:
        """A job: begin the run of this interval, unless a replica has begun it."""
        order = Order(
            run_id=RunId(uuid.uuid4()),
            direction=Direction.BOTH_WAYS,
            dry_run=False,
            age_seconds_min=self._age_seconds_min,
        )
        if await self._runs.begin_due(order, interval=self._interval, deadline=step_deadline()):
            log.info("sync_run_scheduled", run_id=str(order.run_id))
            self.wake()

    async def purge(self) -> float | None:
        """A job: delete a part of the oldest run that is past its retention."""
        more = await self._runs.purge(
            older_than=self._retention, limit=CHANGES_PER_PURGE, deadline=step_deadline()
        )
        return AT_ONCE if more else None

    async def _work_on(self, lease: Lease) -> None:
        pause_seconds = PAUSE_SECONDS
        try:
            await self._carry_on(lease)
            pause_seconds = 0.0
        finally:
            if await self._runs.release(lease, pause_seconds=pause_seconds, deadline=step_deadline()):
                log.info("sync_run_finished", run_id=str(lease.order.run_id))

    async def _carry_on(self, lease: Lease) -> None:
        left = 0
        if not lease.order.dry_run:
            planned = await self._changes.select_planned(
                lease.order.run_id, limit=PLANNED_MAX, deadline=step_deadline()
            )
            progressed = await self._carrying_out.carry_out(lease.order, planned)
            await failpoints.hit_async("progress.after_sync_changes")
            left = progressed.left
            if progressed.problem is not None and (lease.compared_all or left >= PLANNED_MAX // 2):
                raise progressed.problem
        if not lease.compared_all:
            await self._compare(lease)

    async def _compare(self, lease: Lease) -> None:
        """Compare the next stretch, and plan the changes that the order wants."""
        order = lease.order
        found = await self._comparison.compare_next(
            Scope(order.specialization, order.user_id), after=lease.reached, deadline=step_deadline()
        )
        changes = [
            change_for(desync, order.direction)
            for desync in found.desyncs
            if order.user_id or desync.is_settled(order.age_seconds_min)
        ]
        recorded = await self._runs.record(
            lease, changes, reached=found.reached, compared=found.compared, deadline=step_deadline()
        )
        await failpoints.hit_async("progress.after_sync_plan")
        if recorded and not order.dry_run:
            planned = [change for change in changes if change.outcome is Outcome.PLANNED]
            await self._carrying_out.carry_out(order, planned)
