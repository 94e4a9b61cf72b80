"""The breaker in front of Redis: after a few failures in a row, nobody asks it until a probe succeeds."""

from __future__ import annotations

import time

FAILURES_IN_A_ROW_MAX = 3
PROBE_INTERVAL_SECONDS = 0.5


class Breaker:
    """Counts failures in a row. While it is open, `probe_due` says when to try again."""

    def __init__(self) -> None:
        self._failures_in_a_row = 0
        self._probe_at = 0.0

    @property
    def open(self) -> bool:
        return self._failures_in_a_row >= FAILURES_IN_A_ROW_MAX

    def succeeded(self) -> None:
        self._failures_in_a_row = 0

    def failed(self) -> bool:
        """Count a failure; True if this one opens the breaker."""
        self._failures_in_a_row += 1
        self._probe_at = time.monotonic() + PROBE_INTERVAL_SECONDS
        return self._failures_in_a_row == FAILURES_IN_A_ROW_MAX

    def probe_due(self) -> bool:
        """Whether to probe now; True for one caller in each interval."""
        now = time.monotonic()
        if not self.open or now < self._probe_at:
            return False
        self._probe_at = now + PROBE_INTERVAL_SECONDS
        return True
