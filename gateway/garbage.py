"""Garbage is not collected while the gateway is crowded.

The collector visits what is alive, and there is a lot of it: 60 objects for each connection and more for each
request. The gateway makes nearly no garbage that only the collector finds. At three times the capacity, with
4,000 new clients, it stood still for 360 ms in 14 s, 110 ms of them at once, and found 1,000 objects.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

CHECK_SECONDS = 0.5
PAUSE_SECONDS_MAX = 60.0
"""It bounds the garbage, in an overload that does not end."""
OBJECTS_MAX = 300_000
"""New objects that are still there: more than 4,000 new clients make, and about 60 MB."""


class GarbagePauses:
    """Turns the collector off while the gateway is crowded, and on for a moment when a pause has lasted long.

    Args:
        crowded: whether the gateway is crowded now.
        seconds_max: how long the collector is off at most.
        objects_max: it is turned on as well when so many new objects are there, alive or not.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        *,
        crowded: Callable[[], bool],
        seconds_max: float = PAUSE_SECONDS_MAX,
        objects_max: int = OBJECTS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._crowded = crowded
        self._seconds_max = seconds_max
        self._objects_max = objects_max
        self._clock = clock
        self._collecting_at = clock()

    async def check(self) -> None:
        """Turns the collector on or off until the next check."""
        now = self._clock()
        few = gc.get_count()[0] < self._objects_max  # counted while the collector is off, too
        if self._crowded() and few and now - self._collecting_at < self._seconds_max:
            gc.disable()
        else:
            self._collecting_at = now
            gc.enable()
