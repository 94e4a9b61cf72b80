"""One log line for each request that an operator should see, with a bound on the lines of a second."""

from __future__ import annotations

import logging
import time
from typing import Any

from chassis.telemetry.logs import get_logger

SLOW_SECONDS = 1.0
LINES_PER_SECOND_MAX = 50

log = get_logger(__name__)


class RequestLog:
    """Writes the requests that failed for a fault of ours or were slow; or every request.

    When everything fails at once, no more than `lines_per_second_max` lines are written in a second. The next
    line says how many were left out. The metrics count all of them.
    """

    def __init__(self, *, every_request: bool, lines_per_second_max: int = LINES_PER_SECOND_MAX) -> None:
        self._every_request = every_request
        self._lines_per_second_max = lines_per_second_max
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def wants(self, status: int, seconds: float) -> bool:
        """Whether a request with this status and duration is written."""
        return status >= 500 or seconds >= SLOW_SECONDS or self._every_request

    def write(self, *, status: int, seconds: float, **fields: Any) -> None:
        """Writes it, if this second has room for another line."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= self._lines_per_second_max and not self._every_request:
            self._left_out += 1
            return
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        log.log(
            logging.WARNING if status >= 500 else logging.INFO,
            "request_answered",
            status=status,
            milliseconds=round(seconds * 1000, 1),
            **fields,
            **({"left_out": left_out} if left_out else {}),
        )
