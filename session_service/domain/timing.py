"""The times that an operator sets for all sessions, and the times that a client's own clock tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

# How long ago a client that was offline may say that an answer was given.
OCCURRED_AGE_MAX = timedelta(hours=48)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRules:
    """How long things may take in the life of a session.

    Attributes:
        grace: for so long after its deadline a session still takes what was sent in time.
        pause_budget: how long the pauses of a session stop its clock, all together.
        idle_allowed: a session without a deadline ends after so long without a sign of life.
        heartbeat_interval: between two heartbeats of a page. One adds at most twice as much engaged time.
        lease: an unanswered session whose page has sent heartbeats ends after so long without one.
        left_lease: the same, after the page has said that it is being closed.
    """

    grace: timedelta
    pause_budget: timedelta
    idle_allowed: timedelta
    heartbeat_interval: timedelta
    lease: timedelta
    left_lease: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long, after the end of a session, its records are kept. The session itself stays.

    Attributes:
        answers: for its answers.
        timeline: for the events of its timeline that have rows of their own.
    """

    answers: timedelta
    timeline: timedelta


def clamped(occurred_at: datetime | None, *, now: datetime) -> tuple[datetime | None, bool]:
    """The time of the learner's clock within OCCURRED_AGE_MAX before now, and whether it had to be moved."""
    if occurred_at is None:
        return None, False
    kept = min(max(occurred_at, now - OCCURRED_AGE_MAX), now)
    return kept, kept != occurred_at
