"""Recorded results as another service compares them with its sessions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from progress_service.domain.statistics import ResultKey, UserId


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """What was recorded first of a session."""

    user_id: str
    session_id: str
    completed: bool
    answered: int
    total: int
    answers: int
    correct: int
    passed: bool
    xp: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class ResultsQuery:
    """Which results to list: of one learner, unless this is empty, and those behind a key."""

    user_id: UserId
    after: ResultKey | None
