"""Event-loop lag: how long a message may have waited unread."""

from __future__ import annotations

import asyncio
import time

TICK_SECONDS = 0.05


class StallWatch:
    """Measures the event-loop lag, with a timer that notices when it fires late.

    A unary RPC has a deadline that gRPC's own threads count from its arrival. A message on a stream has none.
    Without this, a process that was stopped or overloaded would grant a call time that is over already.
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
        """The longest time that a message which was just read may have waited; usually near 0.

        It is an upper bound: after a stall nobody knows when during it the message arrived.
        """
        return max(self._late_seconds, time.monotonic() - self._due_at, 0.0)

    def _tick(self) -> None:
        self._late_seconds = max(0.0, time.monotonic() - self._due_at)
        self.start()
