"""Resets: a new epoch of a scope, in which nothing is reached yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from progress_service.domain.statistics import UserId


class Scope(StrEnum):
    """What a reset is about."""

    ALL = "all"
    SPECIALIZATION = "specialization"
    COURSE = "course"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetOrder:
    """An administrator's order. `name` says which specialization or course; it is empty for ALL."""

    user_id: UserId
    scope: Scope
    name: str
    ordered_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reset:
    """A reset that has happened, the epoch that it began, and the learner's version after it."""

    user_id: UserId
    epoch: int
    version: int
    reset_at: datetime
