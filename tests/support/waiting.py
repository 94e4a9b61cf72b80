"""Waiting for something to come true, with a bound, in place of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def eventually(
    condition: Callable[[], Awaitable[object]] | Callable[[], object], *, seconds: float = 10.0
) -> None:
    """Return as soon as the condition, a function or a coroutine function, is true; fail after `seconds`."""
    give_up_at = time.monotonic() + seconds
    while True:
        result = condition()
        if await result if inspect.isawaitable(result) else result:
            return
        assert time.monotonic() < give_up_at, "it never came true"
        await asyncio.sleep(0.01)
