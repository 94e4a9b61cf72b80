"""The database's clock, as far as a process knows it: ages do not depend on the clock of any process."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

# How far in the future a moment may lie and still be believed.
AHEAD_SECONDS_MAX = 1.0


class DatabaseClock:
    """Learns the database's time from what is read, and tells how old a moment is by it."""

    def __init__(self) -> None:
        self._moment: datetime | None = None
        self._asked_at = 0.0

    def learn(self, moment: datetime, *, asked_at: float) -> None:
        """The database said `moment` in answer to a question asked at `asked_at`, on `time.monotonic()`.

        The moment counts as that of the question, although it was a little later. So ages come out a little
        too high, never too low.
        """
        self._moment = moment
        self._asked_at = asked_at

    def age_seconds(self, moment: datetime) -> float | None:
        """How long ago a moment was; None if that is not known, or if it lies in the future."""
        if self._moment is None:
            return None
        now = self._moment + timedelta(seconds=time.monotonic() - self._asked_at)
        age = (now - moment).total_seconds()
        return max(age, 0.0) if age >= -AHEAD_SECONDS_MAX else None
