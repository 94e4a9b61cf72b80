"""Event-loop lag: how long a message may have waited before the process read it."""

from __future__ import annotations

import asyncio
import time

TICK_SECONDS = 0.05


class StallWatch:
    """Measures the event-loop lag: how late a timer fires.

    gRPC's own threads count the deadline of a unary RPC from its arrival. A message on a stream has no
    deadline. Without this measure, a process that was stopped or overloaded would give a call more time than
    its caller waits.
    """

    def __init__(self) -> None:
        self._due_at = float("inf")
        self._late_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure, in the running event loop."""
        self._due_at = time.monotonic() + TICK_SECONDS
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def seconds(self) -> float:
        """How long a message that was just read may have waited; usually near 0.

        It is an upper bound: the message may have arrived at any moment of the lag.
        """
        return max(self._late_seconds, time.monotonic() - self._due_at, 0.0)

    def _tick(self) -> None:
        self._late_seconds = max(0.0, time.monotonic() - self._due_at)
        self.start()
