"""Faults of the cache, one after the other, while a test runs."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.learning.world import World

DELAY_SECONDS = 0.5


class CacheFaults:
    """Deletes, freezes, delays, stops and rewinds the cache; `done` counts what it did."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._kept: dict[bytes, bytes] = {}
        self.done: Counter[str] = Counter()

    async def strike(self) -> None:
        """Do one thing to the cache."""
        fault = self._random.choice(["flush", "freeze", "delay", "stop", "keep", "rewind", "heal", "heal"])
        self.done[fault] += 1
        world = self._world
        match fault:
            case "flush":
                await world.redis.flushall()
            case "freeze":
                await world.freeze()
            case "delay":
                world.proxy.delay_seconds = DELAY_SECONDS
            case "stop":
                world.proxy.down = True
            case "keep":
                keys = [key async for key in world.redis.scan_iter("access:*", count=1000)]
                values = await world.redis.mget(keys) if keys else []
                self._kept |= {k: v for k, v in zip(keys, values, strict=True) if isinstance(v, bytes)}
            case "rewind":
                await world.thaw()
                for key, value in self._kept.items():
                    await world.redis.set(key, value)
            case _:
                await world.heal()

    @asynccontextmanager
    async def striking(self, *, every_seconds: float) -> AsyncIterator[None]:
        """Strike again and again during the block; afterwards nothing is broken."""

        ended = asyncio.Event()

        async def again() -> None:
            while not ended.is_set():
                await self.strike()
                await asyncio.sleep(self._random.uniform(0.0, 2 * every_seconds))

        # Not cancelled at the end: redis-py may swallow a cancellation.
        task = asyncio.create_task(again())
        try:
            yield
        finally:
            ended.set()
            await task
            await self._world.heal()
