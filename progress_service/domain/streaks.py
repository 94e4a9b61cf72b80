"""Streaks: consecutive UTC days on which a learner completed a session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, slots=True)
class Run:
    """Active days without a gap, both ends included."""

    first_day: date
    last_day: date


def streak_days(latest: Run | None, *, today: date) -> int:
    """The length of the latest run of active days, if it reaches today or yesterday; else 0.

    A run that ends yesterday still counts, because today is not over. `latest` must not end after today.
    """
    if latest is None or latest.last_day < today - timedelta(days=1):
        return 0
    return (latest.last_day - latest.first_day).days + 1
