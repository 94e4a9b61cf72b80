"""Waiting for something to come true, with a bound, in place of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(
    condition: Callable[[], Awaitable[object]] | Callable[[], object], *, seconds: float = 10.0
) -> Any:
    """What the condition, plain or async, gives as soon as that is true; fails after `seconds`."""
    give_up_at = time.monotonic() + seconds
    while True:
        result = condition()
        value = await result if inspect.isawaitable(result) else result
        if value:
            return value
        assert time.monotonic() < give_up_at, f"still {value!r} after {seconds} s"
        await asyncio.sleep(0.01)
