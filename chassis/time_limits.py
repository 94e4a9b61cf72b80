"""A time limit for a block of code, as `asyncio.timeout` gives it, for less CPU."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class TimeLimit:
    """Cancels the block when its time is over, and turns that cancellation into TimeoutError.

    It follows `asyncio.timeout` step by step, and tells a cancellation from outside in the same way
    (`Task.uncancel`). Every message and every statement has such a limit, and nearly none is reached. As a
    plain `with` that cannot be moved, a limit takes 1.8 µs instead of 4.5.
    """

    __slots__ = ("_cancelled_before", "_seconds", "_task", "_timer", "expired")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._task = task
        self._cancelled_before = task.cancelling()
        self._timer = task.get_loop().call_later(self._seconds, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        own = self.expired and self._task.uncancel() <= self._cancelled_before
        if own and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        self.expired = True
        self._task.cancel()
