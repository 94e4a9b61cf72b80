"""Child processes that end with their parent, are found again after a crash, and end in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from homeroom.embedded import leash

_LOG_BYTES_MAX = 10 * 1024 * 1024
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Owner:
    """The system user that a child process runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """A command, the file for its output, and the signal that asks it to end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    lock: Path
    stop_signal: signal.Signals = signal.SIGTERM
    owner: Owner | None = None
    working_directory: Path | None = None


class Spawned:
    """The base of what is started as a child process, ended, and started again."""

    name: str
    _process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await self._process.wait()


async def spawn(program: Program) -> asyncio.subprocess.Process:
    """Start the program as a child that ends with this process, out of reach of the terminal's Ctrl-C.

    Call it from the main thread: Linux ties the leash to the thread that forked.
    """
    program.log.parent.mkdir(parents=True, exist_ok=True)
    _rotate(program.log)
    uid, gid = (program.owner.uid, program.owner.gid) if program.owner else (-1, -1)
    leashed = [sys.executable, "-I", "-S", leash.__file__]
    leashed += [str(os.getpid()), str(int(program.stop_signal)), str(program.lock), str(uid), str(gid)]
    with program.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *leashed,
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(program.environment),
            cwd=program.working_directory,
            start_new_session=True,
        )


async def end(
    process: asyncio.subprocess.Process, stop_signal: signal.Signals, *, grace_seconds: float
) -> None:
    """Ask the child to end; kill it if it has not ended after `grace_seconds`."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(stop_signal)
        try:
            await asyncio.wait_for(process.wait(), grace_seconds)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    await process.wait()


def holder(lock: Path) -> int | None:
    """The pid of the program that holds this lock; None if none does."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(descriptor, 32) or b"0")
    else:
        return None
    finally:
        os.close(descriptor)


async def end_leftover(lock: Path, stop_signal: signal.Signals, *, grace_seconds: float) -> bool:
    """End the process that a killed supervisor left behind with this lock; return whether there was one.

    Raises TimeoutError if it survives even SIGKILL.
    """
    if holder(lock) is None:
        return False
    for signal_now, seconds in ((stop_signal, grace_seconds), (signal.SIGKILL, 5.0)):
        pid = holder(lock)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_now)
        if await until(lambda: holder(lock) is None, seconds_max=seconds):
            return True
    raise TimeoutError(f"an earlier process still holds {lock}")


async def until(condition: Callable[[], bool], *, seconds_max: float) -> bool:
    """Wait for the condition; return whether it came true in time."""
    deadline = time.monotonic() + seconds_max
    while True:
        if condition():
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
