"""Achievements: what a learner has earned, once each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Achievement:
    """An achievement of a learner, and when it was awarded."""

    achievement: str
    title: str
    description: str
    earned_at: datetime
