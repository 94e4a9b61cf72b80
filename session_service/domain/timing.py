"""The times that an operator sets for all sessions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRules:
    """How long things may take in the life of a session.

    Attributes:
        grace: for so long after its deadline a session still takes what was sent in time.
        pause_budget: how long the pauses of a session stop its clock, all together.
        idle_allowed: a session without a deadline ends after so long without a sign of life.
    """

    grace: timedelta
    pause_budget: timedelta
    idle_allowed: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long, after the end of a session, its records are kept. The session itself stays.

    Attributes:
        answers: for its answers.
        timeline: for the events of its timeline that have rows of their own.
    """

    answers: timedelta
    timeline: timedelta
