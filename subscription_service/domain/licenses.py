"""Licenses: the level a learner holds in a specialization. Only an audited reset lowers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from chassis.errors import Reason, ServiceError, invalid_field

BY_PROGRESS = "progress_service"


class Origin(StrEnum):
    """What ordered a change of a license."""

    PROGRESS = "progress"
    ADVANCE = "advance"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class License:
    """`max_level` is what the catalog said at the last change; `epoch` counts the resets of the progress."""

    user_id: str
    specialization: str
    level: int
    max_level: int
    epoch: int
    updated_at: datetime

    @property
    def completed(self) -> bool:
        return self.level >= self.max_level


@dataclass(frozen=True, slots=True)
class LevelReached:
    """A report of progress: an absolute level, and the epoch it was reached in (None: the license's own)."""

    user_id: str
    specialization: str
    level: int
    max_level: int
    event_id: UUID
    reason: str
    epoch: int | None


@dataclass(frozen=True, slots=True)
class LevelReset:
    """An order to begin again, and the epoch that it begins (None: the license's own)."""

    user_id: str
    specialization: str
    to_level: int
    max_level: int
    event_id: UUID
    by: str
    reason: str
    epoch: int | None


@dataclass(frozen=True, slots=True)
class LevelAdvance:
    """An instructor's order."""

    user_id: str
    specialization: str
    to_level: int
    event_id: UUID
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class LevelMirror:
    """An order to follow the progress, because the two were found to disagree."""

    user_id: str
    specialization: str
    level: int
    max_level: int
    epoch: int
    event_id: UUID
    by: str
    reason: str

    @property
    def reached(self) -> LevelReached:
        """The same as a report of progress."""
        return LevelReached(
            self.user_id,
            self.specialization,
            self.level,
            self.max_level,
            self.event_id,
            self.reason,
            self.epoch,
        )


LicenseOrder = LevelReached | LevelReset | LevelAdvance | LevelMirror


@dataclass(frozen=True, slots=True)
class MirroredLicense:
    """A license after it was told to follow the progress; `level_before` is 0 when there was none before."""

    license: License
    level_before: int


class LicensePosition(NamedTuple):
    """A license's place among all licenses; the bytes of the texts decide."""

    specialization: str
    user_id: str


@dataclass(frozen=True, slots=True)
class LicenseSelection:
    """Which licenses a list shows: those behind `after`, of one specialization or learner if it is named."""

    specialization: str | None
    user_id: str | None
    after: LicensePosition | None


class AgedLicense(NamedTuple):
    """A license, and the seconds since its last change by the database's clock."""

    license: License
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Progression:
    """One change of a license; `from_level` is 0 when there was none before.

    `epoch` is that of the license after the change. `origin` is None if an earlier program made the change.
    """

    user_id: str
    specialization: str
    from_level: int
    to_level: int
    max_level: int
    changed_by: str
    reason: str
    event_id: UUID
    changed_at: datetime
    epoch: int = 0
    origin: Origin | None = None


class SequencedProgression(NamedTuple):
    """A change of a license, and its place among all changes of all licenses."""

    sequence: int
    progression: Progression


class LicenseEvent(NamedTuple):
    specialization: str
    event_id: UUID


@dataclass(slots=True)
class LicenseRecord:
    """The requested licenses of a learner, the requested events that were seen, and the decisions.

    An event counts once for each specialization that it names.
    """

    user_id: str
    now: datetime
    licenses: dict[str, License] = field(default_factory=dict)
    seen_events: set[LicenseEvent] = field(default_factory=set)
    levels_before: dict[LicenseEvent, int] = field(default_factory=dict)
    """The levels before those of the seen events that changed a license."""
    new_events: list[LicenseEvent] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    progressions: list[Progression] = field(default_factory=list)

    def mirror(self, mirror: LevelMirror) -> MirroredLicense:
        """Follow the progress, and tell the level before it. A known event is answered as it was at first."""
        event = LicenseEvent(mirror.specialization, mirror.event_id)
        known = event in self.seen_events
        before = self.licenses.get(mirror.specialization)
        license_ = self.reach(mirror.reached, by=mirror.by)
        level_before = 0 if before is None else before.level
        if known:
            level_before = self.levels_before.get(event, level_before)
        elif before is None or before.level != license_.level:
            self.levels_before[event] = level_before
        return MirroredLicense(license_, level_before)

    def reach(self, reached: LevelReached, *, by: str = BY_PROGRESS) -> License:
        """Raise the license to a level of the progress. A lower, older or known one changes nothing.

        Any order of the same events ends in the same license: the highest level of the latest epoch.
        """
        license_ = self.licenses.get(reached.specialization)
        known = self._saw_before(reached.specialization, reached.event_id)
        if license_ is not None:
            epoch = license_.epoch if reached.epoch is None else reached.epoch
            if known or epoch < license_.epoch:
                return license_
            if epoch == license_.epoch and reached.level <= license_.level:
                return self._widen(license_, reached)
        return self._set(
            reached.specialization,
            level=reached.level,
            max_level=reached.max_level,
            epoch=reached.epoch,
            origin=Origin.PROGRESS,
            by=by,
            reason=reached.reason,
            event_id=reached.event_id,
        )

    def reset(self, reset: LevelReset) -> License:
        """Set the level, also downwards. A reset that is older than the license's epoch changes nothing."""
        license_ = self.licenses.get(reset.specialization)
        known = self._saw_before(reset.specialization, reset.event_id)
        if license_ is not None:
            epoch = license_.epoch if reset.epoch is None else reset.epoch
            # The license is in the reset's own epoch already: levels that were reached since then stay.
            late = reset.epoch is not None and epoch == license_.epoch and reset.to_level <= license_.level
            if known or late or epoch < license_.epoch:
                return license_
        return self._set(
            reset.specialization,
            level=reset.to_level,
            max_level=reset.max_level,
            epoch=reset.epoch,
            origin=Origin.RESET,
            by=reset.by,
            reason=reset.reason,
            event_id=reset.event_id,
        )

    def advance(self, advance: LevelAdvance) -> License | ServiceError:
        """Raise the license by hand, at most to the highest level that its last change knew."""
        license_ = self.licenses.get(advance.specialization)
        if license_ is None:
            return ServiceError(Reason.NOT_FOUND, "The learner has no license in this specialization")
        if advance.to_level > license_.max_level:
            return invalid_field("toLevel", f"may be at most {license_.max_level}")
        if advance.to_level < license_.level:
            return ServiceError(
                Reason.ILLEGAL_TRANSITION,
                f"The license has level {license_.level}, and levels do not fall",
                metadata={"from": license_.level, "to": advance.to_level},
            )
        if advance.to_level == license_.level:
            return license_
        self._saw_before(advance.specialization, advance.event_id)
        return self._set(
            advance.specialization,
            level=advance.to_level,
            max_level=license_.max_level,
            epoch=None,
            origin=Origin.ADVANCE,
            by=advance.by,
            reason=advance.reason,
            event_id=advance.event_id,
        )

    def _set(
        self,
        specialization: str,
        *,
        level: int,
        max_level: int,
        epoch: int | None,
        origin: Origin,
        by: str,
        reason: str,
        event_id: UUID,
    ) -> License:
        old = self.licenses.get(specialization)
        new = License(
            user_id=self.user_id,
            specialization=specialization,
            level=level,
            max_level=max_level,
            epoch=epoch if epoch is not None else old.epoch if old is not None else 0,
            updated_at=self.now,
        )
        self.licenses[specialization] = new
        self.changed.add(specialization)
        self.progressions.append(
            Progression(
                user_id=self.user_id,
                specialization=specialization,
                from_level=0 if old is None else old.level,
                to_level=level,
                max_level=max_level,
                changed_by=by,
                reason=reason,
                event_id=event_id,
                changed_at=self.now,
                epoch=new.epoch,
                origin=origin,
            )
        )
        return new

    def _widen(self, license_: License, reached: LevelReached) -> License:
        """Take over a higher `max_level`: the catalog has grown, so the same level completes it no more."""
        if reached.level < license_.level or reached.max_level <= license_.max_level:
            return license_
        widened = License(
            license_.user_id,
            license_.specialization,
            license_.level,
            reached.max_level,
            license_.epoch,
            self.now,
        )
        self.licenses[license_.specialization] = widened
        self.changed.add(license_.specialization)
        return widened

    def _saw_before(self, specialization: str, event_id: UUID) -> bool:
        """Whether the event was seen before; remembers it."""
        event = LicenseEvent(specialization, event_id)
        if event in self.seen_events:
            return True
        self.seen_events.add(event)
        self.new_events.append(event)
        return False
