"""Where a restore happens: in a running stack, whose services wait meanwhile, or in one that does not run."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from homeroom import probe
from homeroom.backups.follow_ups import caches, stopped_for
from homeroom.backups.manifest import BackupError
from homeroom.data_directory import DataDirectory
from homeroom.embedded.clusters import cluster_of
from homeroom.embedded.postgres import Cluster
from homeroom.embedded.process import end_leftover
from homeroom.embedded.redis import Redis
from homeroom.services import STORES
from homeroom.state import StackState

_STOP_SECONDS_MAX = 10.0
_READY_SECONDS_MAX = 60.0
_POLL_SECONDS = 0.1


@asynccontextmanager
async def quiet(
    data: DataDirectory, stack: StackState | None, databases: Collection[str], *, say: Callable[[str], None]
) -> AsyncIterator[Cluster]:
    """The PostgreSQL of the folder, while no process of these databases' services runs or starts.

    If `stack` is None, nothing runs on the folder, and PostgreSQL runs for the length of this.

    Raises AlreadyRunningError if another command restores, BackupError if a service is not ready afterwards.
    """
    if stack is None:
        with data.held():
            for service in STORES.values():  # what a killed supervisor may have left
                await end_leftover(
                    data.lock(service.package), signal.SIGTERM, grace_seconds=_STOP_SECONDS_MAX
                )
            cluster = cluster_of(data, data.secrets())
            try:
                await cluster.start()
                yield cluster
            finally:
                await cluster.stop()
        return
    packages = stopped_for(databases)
    with data.holding(packages):
        for package in packages:
            await end_leftover(data.lock(package), signal.SIGTERM, grace_seconds=_STOP_SECONDS_MAX)
        say(f"{', '.join(packages)} stopped")
        yield cluster_of(data, data.secrets())
    for package in packages:
        await _until_ready(stack, package)
    say(f"{', '.join(packages)} ready again")


async def empty_cache(data: DataDirectory, stack: StackState | None, databases: Collection[str]) -> None:
    """Empty the Redis of the stack, if it has values of these databases. RuntimeError if it cannot be."""
    if stack is None or not caches(databases):
        return  # a Redis that does not run has nothing: it keeps nothing on disk
    if any(process.name == Redis.name and process.pid is not None for process in stack.processes):
        await Redis(Path(), run=data.run, log=data.log(Redis.name)).forget_everything()


async def _until_ready(stack: StackState, package: str) -> None:
    """The ports of a process stay the same when it is started again."""
    ops_port = stack.process(package).ops_port or 0
    give_up_at = time.monotonic() + _READY_SECONDS_MAX
    while True:
        answer = await probe.get(ops_port, "/readyz")
        if answer is not None and answer.status == 200:
            return
        if time.monotonic() > give_up_at:
            raise BackupError(f"{package} was started again and is not ready: see its log")
        await asyncio.sleep(_POLL_SECONDS)
