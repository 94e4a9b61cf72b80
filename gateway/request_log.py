"""The request log: a line for each request that an operator should see, with a limit per second."""

from __future__ import annotations

import logging
import time
from typing import Any

from chassis.telemetry.logs import get_logger

SLOW_SECONDS = 1.0
LINES_PER_SECOND_MAX = 50

log = get_logger(__name__)


class RequestLog:
    """Writes the requests that were slow, or that failed because of a fault of ours; or every request.

    It writes at most `lines_per_second_max` lines a second, even if all requests fail. The next line has the
    number of the lines that were left out. The metrics count all requests.
    """

    def __init__(self, *, every_request: bool, lines_per_second_max: int = LINES_PER_SECOND_MAX) -> None:
        self._every_request = every_request
        self._lines_per_second_max = lines_per_second_max
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def wants(self, status: int, seconds: float) -> bool:
        """Whether a request with this status and duration gets a line; one that is left out is counted."""
        if self._every_request:
            return True
        if status < 500 and seconds < SLOW_SECONDS:
            return False
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= self._lines_per_second_max:
            self._left_out += 1
            return False
        self._lines += 1
        return True

    def write(self, *, status: int, seconds: float, **fields: Any) -> None:
        """Writes the line of a request that `wants` said yes to."""
        left_out, self._left_out = self._left_out, 0
        log.log(
            logging.WARNING if status >= 500 else logging.INFO,
            "request_answered",
            status=status,
            milliseconds=round(seconds * 1000, 1),
            **fields,
            **({"left_out": left_out} if left_out else {}),
        )
