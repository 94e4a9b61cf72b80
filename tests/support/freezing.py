"""Stops a process for a while, with what it has started: it is silent, and its connections stay open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from homeroom.supervisor import Stack


async def freeze(stack: Stack, name: str, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after so many seconds. The children of PostgreSQL are frozen with it."""
    pid = stack.pid(name)
    assert pid is not None
    frozen = [pid, *_children(pid)]
    for each in frozen:
        _send(each, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for each in frozen:
            _send(each, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # a backend of PostgreSQL may have ended meanwhile
        os.kill(pid, number)
