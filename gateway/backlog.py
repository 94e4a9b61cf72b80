"""Requests that a crowded gateway has received, and that it has not looked at yet.

A refusal takes little. But all sockets that have something are read in one turn of the event loop, and if
each of thousands of requests were refused in it, those that were let in would wait for all of them, in each
of their steps. So one turn looks at some requests only. The others wait here, unparsed, in their order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

LOOKS_PER_TURN_MAX = 40
"""About 1.5 ms of refusals. A larger number refuses sooner, and serves fewer of those who were let in."""
BYTES_MAX = 16 * 1024 * 1024


class Backlog:
    """The order in which a crowded gateway looks at what it has received.

    Args:
        looks_max: requests that are looked at in one turn of the event loop.
        bytes_max: the size of all that wait. What does not fit is looked at right away.
    """

    def __init__(self, *, looks_max: int = LOOKS_PER_TURN_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._looks_max = looks_max
        self._bytes_max = bytes_max
        self._left = looks_max
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._bytes = 0
        self._turning = False

    @property
    def waiting(self) -> int:
        """Requests that wait; some of their clients may have left in the meantime."""
        return len(self._waiting)

    def takes(self, look: Callable[[], object], size_bytes: int) -> bool:
        """Whether a request of this size has to wait; a later turn calls `look`, which must not raise."""
        if not self._turning:
            self._turning = True
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
        left = self._looks_max
        while self._waiting and left:
            left -= 1
            look, size_bytes = self._waiting.popleft()
            self._bytes -= size_bytes
            look()
        self._left = left
        self._turning = left < self._looks_max
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)
