"""Specializations: levels in order, each with the XP that it requires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.errors import FieldViolation, invalid_fields
from progress_service.domain.statistics import UserId

VIOLATIONS_MAX = 20


@dataclass(frozen=True, slots=True)
class Level:
    """A level, and the XP in its specialization from which on a learner has it."""

    level: int
    name: str
    xp_required: int


@dataclass(frozen=True, slots=True)
class Specialization:
    """A specialization with all its levels, from the lowest to the highest."""

    specialization: str
    name: str
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class SpecializationProgress:
    """A learner's XP and level since the last reset; `next_level_xp` is None at the highest level."""

    user_id: UserId
    specialization: str
    xp: int
    level: int
    max_level: int
    next_level_xp: int | None


def check_levels(levels: Sequence[Level]) -> None:
    """Raise INVALID_ARGUMENT unless these are levels from 1 on without gaps, whose requirements do not fall.

    The first level requires no XP, so that every learner who has begun has a level.
    """
    violations: list[FieldViolation] = []
    before = 0
    for place, level in enumerate(levels):
        if level.level != place + 1:
            violations.append(FieldViolation(f"levels[{place}].level", f"must be {place + 1}"))
        if place == 0 and level.xp_required != 0:
            violations.append(FieldViolation("levels[0].xpRequired", "must be 0"))
        if level.xp_required < before:
            violations.append(FieldViolation(f"levels[{place}].xpRequired", f"must be at least {before}"))
        before = level.xp_required
    if violations:
        raise invalid_fields(violations[:VIOLATIONS_MAX])
