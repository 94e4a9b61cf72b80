"""How long the event loop did nothing: for as long may have lain here what it reads next."""

from __future__ import annotations

import asyncio
import time

TICK_SECONDS = 0.05


class StallWatch:
    """Ticks, and notices when a tick comes late.

    A unary RPC brings a deadline that gRPC's own threads count from its arrival. A message on a stream has
    none, and a process that was stopped or overwhelmed would give the calls in it time that is over already.
    """

    def __init__(self) -> None:
        self._due_at = float("inf")
        self._late_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick, in the running event loop."""
        self._due_at = time.monotonic() + TICK_SECONDS
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def seconds(self) -> float:
        """How long a message that was just read may have lain here, to within a tick; usually next to 0.

        It is the most that can be: after a stall nobody knows when in it the message came.
        """
        return max(self._late_seconds, time.monotonic() - self._due_at, 0.0)

    def _tick(self) -> None:
        self._late_seconds = max(0.0, time.monotonic() - self._due_at)
        self.start()
