"""Session results to send, for tests."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from chassis.errors import ServiceError
from progress_service.domain.statistics import Recording, SessionId, SessionResult, UserId, Verdict

_numbers = itertools.count(1)

MIDDAY = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)

_COMPLETED = SessionResult(
    user_id=UserId("ada"),
    session_id=SessionId("s"),
    test_id="physics-01",
    specialization="physics",
    completed=True,
    answered=3,
    total=4,
    answers=5,
    correct=2,
    score=0.5,
    passed=True,
    xp=10,
    closed_at=MIDDAY,
)


def learner(name: str = "learner") -> UserId:
    """A learner that no other test uses."""
    return UserId(f"{name}-{next(_numbers)}-{random.randrange(10**9):09d}")


def completed(user_id: str, session_id: str, **changes: Any) -> SessionResult:
    return replace(_COMPLETED, user_id=UserId(user_id), session_id=SessionId(session_id), **changes)


def abandoned(user_id: str, session_id: str, **changes: Any) -> SessionResult:
    return completed(user_id, session_id, completed=False, passed=False, xp=0, **changes)


def verdicts_of(outcomes: Sequence[Recording | ServiceError]) -> list[Verdict]:
    """What became of each result; fails when one was not recorded at all."""
    recordings = [outcome for outcome in outcomes if isinstance(outcome, Recording)]
    assert len(recordings) == len(outcomes), outcomes
    return [recording.verdict for recording in recordings]
