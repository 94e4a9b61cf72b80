"""Runs that bring progress and licenses into step, and the changes that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType
from uuid import UUID, uuid5

from progress_service.domain.desyncs import (
    LICENSE_AFTER_RESET,
    LICENSE_BEFORE_RESET,
    Action,
    Desync,
    Direction,
    Key,
    Kind,
    Levels,
    ProgressLevel,
    plan,
)
from progress_service.domain.earnings import Gain
from progress_service.domain.statistics import UserId

RunId = NewType("RunId", UUID)

SYNC_EVENTS = UUID("5b0a4cde-6f0b-4b8b-9f0a-2f6f4f0c7d35")
BY_SCHEDULE = "progress_service"
"""Who orders the scheduled runs, as the history of a license shows it."""
REASON = "brought into step with the progress"
"""Why a run changes a license, as its history shows it."""


def run_id_of(user_id: str, method: str, key: str) -> RunId:
    """The id of the run that a request with this key begins, the same for every repetition."""
    return RunId(uuid5(SYNC_EVENTS, f"run\n{user_id}\n{method}\n{key}"))


class Outcome(StrEnum):
    """What became of a change."""

    PLANNED = "planned"
    APPLIED = "applied"
    UNCHANGED = "unchanged"
    NEEDS_DECISION = "needs_decision"
    FAILED = "failed"


class RunState(StrEnum):
    """Whether a run is at its end."""

    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order to bring learners into step. `specialization` and `user_id` are empty for all.

    `ordered_by` is empty for the schedule. Disagreements that are younger than `age_seconds_min` are left
    alone: what resolves them may be on its way.
    """

    run_id: RunId
    direction: Direction
    dry_run: bool
    specialization: str = ""
    user_id: str = ""
    ordered_by: str = ""
    age_seconds_min: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run has found and done until now."""

    compared: int = 0
    level_mismatches: int = 0
    progress_without_license: int = 0
    license_without_progress: int = 0
    planned: int = 0
    applied: int = 0
    unchanged: int = 0
    needs_decision: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """An order, and how far it is carried out."""

    order: Order
    state: RunState
    counts: Counts
    started_at: datetime
    finished_at: datetime | None


class Report(NamedTuple):
    """A run, and its first changes."""

    run: Run
    changes: Sequence[Change]


class Lease(NamedTuple):
    """The right of one replica to carry a run on, until the lease ends; `number` tells it from later ones."""

    order: Order
    number: int
    reached: Key | None
    compared_all: bool


class ProgressNow(NamedTuple):
    """A learner's level in a specialization under the learner's lock; 0 if there is none."""

    level: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a run makes of one disagreement. A level of 0 is none."""

    user_id: UserId
    specialization: str
    kind: Kind
    action: Action
    outcome: Outcome
    progress_before: int
    license_before: int
    progress_after: int
    license_after: int
    license_epoch: int
    reason: str

    @property
    def key(self) -> Key:
        return Key(self.specialization, self.user_id)

    @property
    def before(self) -> Levels:
        return Levels(self.progress_before, self.license_before)

    @property
    def after(self) -> Levels:
        return Levels(self.progress_after, self.license_after)

    def ending(self, outcome: Outcome, *, before: Levels, after: Levels, reason: str = "") -> Change:
        """The same change as it was carried out."""
        return Change(
            user_id=self.user_id,
            specialization=self.specialization,
            kind=self.kind,
            action=self.action,
            outcome=outcome,
            progress_before=before.progress,
            license_before=before.license,
            progress_after=after.progress,
            license_after=after.license,
            license_epoch=self.license_epoch,
            reason=reason,
        )

    def failing(self, reason: str) -> Change:
        """The same change, which the other store refused."""
        return self.ending(Outcome.FAILED, before=self.before, after=self.before, reason=reason)

    def mirrored(self, progress: ProgressLevel, *, license_before: int, license_after: int) -> Change:
        """The same change after the license has followed the progress."""
        before, after = Levels(progress.level, license_before), Levels(progress.level, license_after)
        if license_after < progress.level:
            return self.ending(Outcome.NEEDS_DECISION, before=before, after=after, reason=LICENSE_AFTER_RESET)
        return self.ending(
            Outcome.UNCHANGED if before == after else Outcome.APPLIED, before=before, after=after
        )

    def granted(self, progress: ProgressNow) -> tuple[Change, Gain | None]:
        """The same change after the progress has followed the license, and the grant that this takes.

        A license only falls when the progress is reset. So a license that was read before a reset shows an
        older epoch, and its level is not granted any more.
        """
        before = Levels(progress.level, self.license_before)
        if self.license_epoch < progress.epoch:
            return self.ending(
                Outcome.NEEDS_DECISION, before=before, after=before, reason=LICENSE_BEFORE_RESET
            ), None
        if progress.level >= self.license_before:
            return self.ending(Outcome.UNCHANGED, before=before, after=before), None
        gain = Gain(
            user_id=self.user_id,
            specialization=self.specialization,
            granted_level=self.license_before,
            epoch=progress.epoch,
        )
        after = Levels(self.license_before, self.license_before)
        return self.ending(Outcome.APPLIED, before=before, after=after), gain

    def event_id(self, run_id: RunId, progress: ProgressLevel) -> UUID:
        """The id of this change to this level for the other store, the same however often it is sent."""
        level = f"{progress.epoch}\n{progress.level}\n{progress.max_level}"
        return uuid5(SYNC_EVENTS, f"{run_id}\n{level}\n{self.specialization}\n{self.user_id}")


def change_for(desync: Desync, direction: Direction) -> Change:
    """The change that this direction wants; it is PLANNED, or NEEDS_DECISION if there is nothing to do."""
    planned = plan(desync, direction)
    return Change(
        user_id=desync.key.user_id,
        specialization=desync.key.specialization,
        kind=desync.kind,
        action=planned.action,
        outcome=Outcome.NEEDS_DECISION if planned.action is Action.NONE else Outcome.PLANNED,
        progress_before=desync.levels.progress,
        license_before=desync.levels.license,
        progress_after=planned.after.progress,
        license_after=planned.after.license,
        license_epoch=desync.license_epoch,
        reason=planned.reason,
    )
