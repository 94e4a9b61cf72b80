"""Where a learner's level and the license that mirrors it disagree, and what would bring them into step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from progress_service.domain.statistics import UserId

T = TypeVar("T")


class Direction(StrEnum):
    """Which side follows the other one. No direction lowers anything."""

    PROGRESS_TO_LICENSE = "progress_to_license"
    LICENSE_TO_PROGRESS = "license_to_progress"
    # The lower side follows the higher one.
    BOTH_WAYS = "both_ways"


class Kind(StrEnum):
    """How the two disagree."""

    LEVEL_MISMATCH = "level_mismatch"
    PROGRESS_WITHOUT_LICENSE = "progress_without_license"
    LICENSE_WITHOUT_PROGRESS = "license_without_progress"


class Key(NamedTuple):
    """What both sides are ordered by. PostgreSQL's collation "C" and Python compare these texts alike."""

    specialization: str
    user_id: UserId


@dataclass(frozen=True, slots=True)
class ProgressLevel:
    """A learner's level in a specialization; 0 while the catalog has none for them.

    `under_way` tells that an event for the license still waits in the outbox.
    """

    user_id: UserId
    specialization: str
    level: int
    max_level: int
    epoch: int
    age_seconds: float
    under_way: bool

    @property
    def key(self) -> Key:
        return Key(self.specialization, self.user_id)


@dataclass(frozen=True, slots=True)
class LicenseLevel:
    """The level of a license, and the epoch of the progress that it mirrors."""

    user_id: UserId
    specialization: str
    level: int
    epoch: int
    age_seconds: float

    @property
    def key(self) -> Key:
        return Key(self.specialization, self.user_id)


class Levels(NamedTuple):
    """The levels of the two sides; 0 where there is none."""

    progress: int
    license: int


@dataclass(frozen=True, slots=True)
class Desync:
    """Two sides of one key that disagree; one of them may be missing."""

    key: Key
    progress: ProgressLevel | None
    license: LicenseLevel | None

    @property
    def levels(self) -> Levels:
        return Levels(
            0 if self.progress is None else self.progress.level,
            0 if self.license is None else self.license.level,
        )

    @property
    def kind(self) -> Kind:
        if self.license is None:
            return Kind.PROGRESS_WITHOUT_LICENSE
        return Kind.LEVEL_MISMATCH if self.levels.progress else Kind.LICENSE_WITHOUT_PROGRESS

    @property
    def license_epoch(self) -> int:
        return 0 if self.license is None else self.license.epoch

    def is_settled(self, age_seconds_min: float) -> bool:
        """Whether both sides have been as they are for this long, and nothing is on its way between them."""
        if self.progress is not None and (
            self.progress.under_way or self.progress.age_seconds < age_seconds_min
        ):
            return False
        return self.license is None or self.license.age_seconds >= age_seconds_min


class Action(StrEnum):
    """What a change does."""

    LICENSE_FOLLOWS = "license_follows"
    PROGRESS_FOLLOWS = "progress_follows"
    NONE = "none"


class Plan(NamedTuple):
    """What a direction makes of a disagreement. `reason` says why nothing can be done without a person."""

    action: Action
    after: Levels
    reason: str = ""


NEEDS_RESET_OF_LICENSE = "The license is above the progress, and only a reset of the progress lowers it"
NEEDS_RESET_OF_PROGRESS = "The progress is above the license, and only a reset lowers it"
LICENSE_BEFORE_RESET = "The license is from before a reset of the progress"
LICENSE_AFTER_RESET = "The license knows of a reset that the progress does not know of"


def plan(desync: Desync, direction: Direction) -> Plan:
    """What brings these two into step in this direction, without lowering anything.

    A license whose progress was reset since is no exception: the reset lowers it, which it has missed.
    """
    progress, license_ = desync.levels
    epoch = 0 if desync.progress is None else desync.progress.epoch
    missed_reset = desync.progress is not None and desync.license_epoch < epoch
    if direction is Direction.LICENSE_TO_PROGRESS:
        follow_license = True
    elif direction is Direction.PROGRESS_TO_LICENSE:
        follow_license = False
    else:
        follow_license = license_ > progress and not (missed_reset and progress)
    if follow_license:
        if license_ < progress:
            return Plan(Action.NONE, desync.levels, NEEDS_RESET_OF_PROGRESS)
        if missed_reset:
            return Plan(Action.NONE, desync.levels, LICENSE_BEFORE_RESET)
        return Plan(Action.PROGRESS_FOLLOWS, Levels(license_, license_))
    if desync.progress is not None and desync.license_epoch > epoch:
        return Plan(Action.NONE, desync.levels, LICENSE_AFTER_RESET)
    if license_ < progress or (missed_reset and progress):
        return Plan(Action.LICENSE_FOLLOWS, Levels(progress, progress))
    return Plan(Action.NONE, desync.levels, NEEDS_RESET_OF_LICENSE)


@dataclass(frozen=True, slots=True)
class Slice(Generic[T]):
    """The next rows of an ordered store; `more` tells whether there are others behind them."""

    rows: Sequence[T]
    more: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """A stretch of both stores that was compared. `reached` is None if it goes to the end of both."""

    desyncs: list[Desync]
    compared: int
    reached: Key | None


def compare(progress: Slice[ProgressLevel], licenses: Slice[LicenseLevel]) -> Comparison:
    """Merge two slices that begin behind the same key, as far as both of them reach."""
    ends = [part.rows[-1].key for part in (progress, licenses) if part.more]
    reached = min(ends, default=None)
    compared = 0
    desyncs: list[Desync] = []
    for pair in _merged(progress.rows, licenses.rows):
        if reached is not None and pair.key > reached:
            break
        compared += (pair.progress is not None) + (pair.license is not None)
        if pair.levels.progress != pair.levels.license:
            desyncs.append(pair)
    return Comparison(desyncs, compared, reached)


def _merged(progress: Sequence[ProgressLevel], licenses: Sequence[LicenseLevel]) -> Iterator[Desync]:
    ours, theirs = iter(progress), iter(licenses)
    our, their = next(ours, None), next(theirs, None)
    while our is not None or their is not None:
        key = min(side.key for side in (our, their) if side is not None)
        mine = our if our is not None and our.key == key else None
        other = their if their is not None and their.key == key else None
        yield Desync(key, mine, other)
        if mine is not None:
            our = next(ours, None)
        if other is not None:
            their = next(theirs, None)
