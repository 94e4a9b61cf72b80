"""What a learner earns by one operation, and what becomes of it: totals, levels, achievements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from chassis.frozen import quick
from progress_service.domain.statistics import UserId


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Earning:
    """What one operation brings a learner: XP, and additions to the totals.

    `operation_id` is the same however often the operation is sent. `specialization` is empty if the XP
    belongs to none. `earned_at` decides to which epoch the XP belongs: XP that was earned before a reset adds
    nothing to the level after it. `active_day` is the UTC day on which the learner is active by it.
    """

    user_id: UserId
    operation_id: UUID
    earned_at: datetime
    specialization: str = ""
    xp: int = 0
    active_day: date | None = None
    enrolled: int = 0
    completed_lessons: int = 0
    completed_sessions: int = 0
    questions_answered: int = 0
    answers: int = 0
    correct: int = 0

    @property
    def gains(self) -> bool:
        """Whether the XP belongs to a specialization."""
        return self.xp > 0 and bool(self.specialization)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """An addition to a learner's progress in a specialization.

    `granted_level` is a level that an instructor has granted by advancing the license, or that another system
    knew, or 0; `license_max_level` is the highest level that the license knows. `epoch` is that of the
    specialization now; it is used if the learner has no progress in the specialization yet.
    """

    user_id: UserId
    specialization: str
    xp: int = 0
    granted_level: int = 0
    license_max_level: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """A level that a learner has reached, or the same level in a catalog whose highest level has risen.

    `told` says whether the outbox has an order for the license. A license that has the level already needs
    none.
    """

    user_id: UserId
    specialization: str
    epoch: int
    level_before: int
    level: int
    max_level: int
    told: bool = True

    @property
    def reached(self) -> bool:
        """Whether the level is higher than before; otherwise only `max_level` is."""
        return self.level > self.level_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """What the earnings of one learner came to.

    `version` is the learner's version after them, `xp` what they added to the total. `levels` are the changes
    that subscription_service is told about through the outbox: wake the relay after the commit if there are
    any.
    """

    version: int
    xp: int = 0
    levels: tuple[LevelChange, ...] = ()
    achievements: tuple[str, ...] = ()
