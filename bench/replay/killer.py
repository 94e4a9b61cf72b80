"""Kills the processes of a stack, one after the other at random, while a log is played on it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from bench.replay.errors import ReplayError
from homeroom.services import SERVICES

POSTGRES = "postgres"
VICTIMS = (*(service.package for service in SERVICES), POSTGRES)
PAUSE_SECONDS_MIN = 4.0
PAUSE_SECONDS_MAX = 9.0
# Most ends are crashes; some are the orderly stop of a deployment, which has paths of its own.
CRASH_SHARE = 0.75
RUNNING_SECONDS_MAX = 60.0
POLL_SECONDS = 0.05


class Way(StrEnum):
    """How a process is ended."""

    CRASH = "crash"
    """SIGKILL; for PostgreSQL an immediate stop, from which it recovers."""
    STOP = "stop"
    """SIGTERM; for PostgreSQL a fast stop."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: so long after the one before it."""

    pause_seconds: float
    victim: str
    way: Way


class Killable(Protocol):
    """What the killer needs of a stack; its supervisor starts again what was killed."""

    def pid(self, name: str) -> int | None: ...

    async def kill(self, name: str) -> int: ...

    async def terminate(self, name: str) -> int: ...

    async def restart_postgres(self, *, immediately: bool = False) -> None: ...

    async def wait_ready(self) -> None: ...


def schedule(seed: int, kills: int) -> Iterator[Kill]:
    """The kills of this seed: always the same ones, each victim as likely as any other."""
    choices = random.Random(seed)
    for _ in range(kills):
        yield Kill(
            pause_seconds=choices.uniform(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX),
            victim=choices.choice(VICTIMS),
            way=Way.CRASH if choices.random() < CRASH_SHARE else Way.STOP,
        )


class Killer:
    """Kills on schedule inside of `at_work()`, which may be entered again and goes on with the schedule.

    `killed` counts the kills by victim and way; `say` receives a line for each.
    """

    def __init__(self, stack: Killable, kills: Iterator[Kill], *, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._kills = kills
        self._due = next(kills, None)
        self._say = say
        self.killed: Counter[tuple[str, Way]] = Counter()

    @property
    def done(self) -> bool:
        """Whether every kill of the schedule was carried out."""
        return self._due is None

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Kill until the block ends. The kill under way is finished first: nothing is left half restarted.

        The stack is ready again at the end. Raises ReplayError if a victim does not come back.
        """
        enough = asyncio.Event()
        killing = asyncio.create_task(self._kill_until(enough), name="killer")
        try:
            yield
        finally:
            enough.set()
            await killing
        await self._stack.wait_ready()

    async def _kill_until(self, enough: asyncio.Event) -> None:
        while (kill := self._due) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(kill.pause_seconds):
                    await enough.wait()
            if enough.is_set():
                return
            await self._carry_out(kill)
            self.killed[kill.victim, kill.way] += 1
            self._due = next(self._kills, None)

    async def _carry_out(self, kill: Kill) -> None:
        await self._until_running(kill.victim)
        self._say(f"{kill.way} of {kill.victim}")
        if kill.victim == POSTGRES:
            await self._stack.restart_postgres(immediately=kill.way is Way.CRASH)
        elif kill.way is Way.CRASH:
            await self._stack.kill(kill.victim)
        else:
            await self._stack.terminate(kill.victim)

    async def _until_running(self, victim: str) -> None:
        give_up_at = time.monotonic() + RUNNING_SECONDS_MAX
        while self._stack.pid(victim) is None:
            if time.monotonic() > give_up_at:
                raise ReplayError(f"{victim} was killed and did not come back in {RUNNING_SECONDS_MAX:.0f} s")
            await asyncio.sleep(POLL_SECONDS)
