"""Carrying out the changes of a run: a license follows the progress, or the progress follows a license."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chassis.errors import ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from chassis.process.background import step_deadline
from chassis.telemetry.metrics import Metrics
from progress_service.domain.desyncs import Action
from progress_service.domain.sync_runs import BY_SCHEDULE, REASON, Change, Order, Outcome
from progress_service.store.level_reads import LevelReader
from progress_service.store.sync_changes import SyncChangeStore
from progress_service.store.sync_grants import GrantStore
from progress_service.subscription_client import SubscriptionClient

CHANGES_AT_ONCE_MAX = 128
REASON_CHARACTERS_MAX = 500


@dataclass(slots=True)
class Progressed:
    """How many changes have ended, how many are left, and why the last of these could not be carried out."""

    ended: int = 0
    left: int = 0
    problem: ServiceError | None = None


class SyncChanges:
    """Carries out changes that a run has planned. One that fails delays no other one."""

    def __init__(
        self,
        *,
        changes: SyncChangeStore,
        grants: GrantStore,
        levels: LevelReader,
        licenses: SubscriptionClient,
        wake_relay: Callable[[], object],
        metrics: Metrics,
    ) -> None:
        self._changes = changes
        self._grants = grants
        self._levels = levels
        self._licenses = licenses
        self._wake_relay = wake_relay
        self._outcomes = metrics.counter(
            "sync_changes", "Disagreements of progress and licenses that runs have dealt with.", ("outcome",)
        )

    async def carry_out(self, order: Order, changes: Sequence[Change]) -> Progressed:
        """Carry out these planned changes, each as the learner's level is at that moment.

        Raises what `Database` raises; the changes that have ended until then have ended.
        """
        progressed = Progressed()
        following = [change for change in changes if change.action is Action.LICENSE_FOLLOWS]
        for first in range(0, len(following), CHANGES_AT_ONCE_MAX):
            some = following[first : first + CHANGES_AT_ONCE_MAX]
            self._count(progressed, await self._mirror(order, some))
        granting = [change for change in changes if change.action is Action.PROGRESS_FOLLOWS]
        for first in range(0, len(granting), CHANGES_AT_ONCE_MAX):
            some = granting[first : first + CHANGES_AT_ONCE_MAX]
            self._count(progressed, await self._grant(order, some))
        return progressed

    async def _mirror(self, order: Order, changes: Sequence[Change]) -> list[Change | ServiceError]:
        """Tell subscription_service the levels of now, and then store how the changes have ended."""
        levels = await self._levels.select_levels([each.key for each in changes], deadline=step_deadline())
        ended: list[Change | ServiceError] = [
            change.ending(Outcome.UNCHANGED, before=change.before, after=change.before)
            for change in changes
            if change.key not in levels or not levels[change.key].level
        ]
        wanted = [
            (change, levels[change.key])
            for change in changes
            if change.key in levels and levels[change.key].level
        ]
        if wanted:
            answers = await self._licenses.mirror_levels(
                order.run_id, wanted, by=order.ordered_by or BY_SCHEDULE, reason=REASON
            )
            ended += [
                _failed(change, answer) if isinstance(answer, ServiceError) else answer
                for (change, _), answer in zip(wanted, answers, strict=True)
            ]
        await self._changes.end(
            order.run_id, [each for each in ended if isinstance(each, Change)], deadline=step_deadline()
        )
        return ended

    async def _grant(self, order: Order, changes: Sequence[Change]) -> list[Change | ServiceError]:
        """Grant the levels; each grant is committed together with the end of its change."""

        async def attempt(some: Sequence[Change], wait: bool) -> list[Change | Locked]:
            return await self._grants.grant_levels(order.run_id, some, wait=wait, deadline=step_deadline())

        outcomes = await run_isolated(changes, attempt, owner_of=lambda change: change.user_id)
        self._wake_relay()
        ended = [
            _failed(change, outcome) if isinstance(outcome, ServiceError) else outcome
            for change, outcome in zip(changes, outcomes, strict=True)
        ]
        failed = [each for each in ended if isinstance(each, Change) and each.outcome is Outcome.FAILED]
        await self._changes.end(order.run_id, failed, deadline=step_deadline())
        return ended

    def _count(self, progressed: Progressed, ended: Sequence[Change | ServiceError]) -> None:
        for each in ended:
            if isinstance(each, ServiceError):
                progressed.left += 1
                progressed.problem = each
            else:
                progressed.ended += 1
                if each.outcome is not Outcome.PLANNED:  # another replica has ended it
                    self._outcomes.add(each.outcome.value)


def _failed(change: Change, error: ServiceError) -> Change | ServiceError:
    """The change as failed, or the error if a later attempt may succeed."""
    return error if error.reason.retryable else change.failing(str(error)[:REASON_CHARACTERS_MAX])
