"""Requests that a crowded gateway has received, and that it has not looked at yet.

A refusal takes little. But all sockets that have something are read in one turn of the event loop, and if
each of thousands of requests were refused in it, those that were let in would wait for all of them, in each
of their steps. So the looks get a share of the time. What does not fit waits here, unparsed, in its order.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

SHARE_MAX = 0.65
"""At three times the capacity the looks need 0.4 of the time, more for moments; then a queue stands here."""
LOOKS_MIN = 40
"""About 2 ms of refusals."""
SECONDS_MAX = 0.1
"""Of looks in one turn: after a stall of the process, their share would be too much at once."""
BYTES_MAX = 16 * 1024 * 1024


class Backlog:
    """The order in which a crowded gateway looks at what it has received.

    Args:
        share_max: the share of the event loop's time that the looks take, from 0 to below 1; as many as
            `looks_min` may take more.
        looks_min: requests that are looked at in each turn of the event loop, however short it is.
        bytes_max: the size of all that wait. What does not fit is looked at right away.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        *,
        share_max: float = SHARE_MAX,
        looks_min: int = LOOKS_MIN,
        bytes_max: int = BYTES_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds_for_each = share_max / (1 - share_max)  # of looks, for a second of everything else
        self._looks_min = looks_min
        self._bytes_max = bytes_max
        self._clock = clock
        self._left = looks_min
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._bytes = 0
        self._turning = False
        self._looked_at = 0.0

    @property
    def waiting(self) -> int:
        """Requests that wait; some of their clients may have left in the meantime."""
        return len(self._waiting)

    def takes(self, look: Callable[[], object], size_bytes: int) -> bool:
        """Whether a request of this size has to wait; a later turn calls `look`, which must not raise."""
        if not self._turning:
            self._turning = True
            self._looked_at = self._clock()
            asyncio.get_running_loop().call_soon(self._turn)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return False
        if self._bytes + size_bytes > self._bytes_max:
            return False
        self._bytes += size_bytes
        self._waiting.append((look, size_bytes))
        return True

    def _turn(self) -> None:
        now = self._clock()
        until = now + min(SECONDS_MAX, (now - self._looked_at) * self._seconds_for_each)
        left = self._looks_min
        while self._waiting and (left > 0 or self._clock() < until):
            left -= 1
            look, size_bytes = self._waiting.popleft()
            self._bytes -= size_bytes
            look()
        self._looked_at = self._clock()
        self._turning = left < self._looks_min
        self._left = max(0, left)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)
