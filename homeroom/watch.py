"""Keeps one child process running: it is restarted with exponential back-off and jitter when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Protocol

_BACKOFF_SECONDS_FIRST = 0.1
_BACKOFF_SECONDS_MAX = 5.0
_STEADY_SECONDS = 5.0
"""A process that lived this long was healthy: its next death counts as the first one."""


class Child(Protocol):
    """A process that can be started again and again."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int | None:
        """None while it does not run."""

    async def start(self) -> None:
        """Raises RuntimeError when it cannot."""

    async def wait(self) -> int:
        """Return its exit code when it has ended; a negative one is minus the signal."""

    async def stop(self) -> None:
        """End it, by force if necessary; it has ended at return."""


class Watch:
    """Supervises one child, from start() to stop()."""

    def __init__(self, child: Child, *, on_change: Callable[[], None], say: Callable[[str], None]) -> None:
        self.child = child
        self.restarts = 0
        self.deaths_in_a_row = 0
        self.started_at: datetime | None = None
        self._on_change = on_change
        self._say = say
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the child; raises what that raises. From then on the child is kept running."""
        await self._start_child()
        self._keeper = asyncio.create_task(self._keep(), name=f"watch {self.child.name}")

    async def stop(self) -> None:
        """End the supervision, and the child."""
        await self.let_go()
        await self.child.stop()
        self._on_change()

    async def restart(self, stop: Callable[[], Coroutine[None, None, None]]) -> None:
        """Restart the child; `stop` ends it. A planned restart has no back-off and counts as no death."""
        await self.let_go()
        await stop()
        await self.start()

    async def let_go(self) -> None:
        """End the supervision: whatever happens to the child now, it is not started again."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None

    async def _start_child(self) -> None:
        await self.child.start()
        self.started_at = datetime.now(UTC)
        self._on_change()

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            code = await self.child.wait()
            if clock() - started >= _STEADY_SECONDS:
                self.deaths_in_a_row = 0
            delay = backoff_seconds(self.deaths_in_a_row)
            self.deaths_in_a_row += 1
            self._say(f"{self.child.name} ended ({_cause(code)}): starting it again in {delay:.1f} s")
            self._on_change()
            await asyncio.sleep(delay)
            await self._start_again()

    async def _start_again(self) -> None:
        while True:
            self.restarts += 1
            try:
                await self._start_child()
            except (OSError, RuntimeError) as error:
                delay = backoff_seconds(self.deaths_in_a_row)
                self.deaths_in_a_row += 1
                self._say(f"{self.child.name} does not start, next try in {delay:.1f} s: {error}")
                await asyncio.sleep(delay)
            else:
                return


def backoff_seconds(deaths_in_a_row: int) -> float:
    """How long to wait before the next start: doubling, bounded, and spread over its upper half."""
    ceiling = min(_BACKOFF_SECONDS_MAX, _BACKOFF_SECONDS_FIRST * 2.0 ** min(deaths_in_a_row, 16))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
