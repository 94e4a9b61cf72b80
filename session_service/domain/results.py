"""The results of a test, by learner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LearnerResult:
    """What a learner's ended sessions of a test come to; sessions that use no attempt do not count.

    `best_score` is None for a test without questions.
    """

    user_id: str
    attempts: int
    best_score: float | None
    passed: bool
    engaged_seconds: float
    last_ended_at: datetime
