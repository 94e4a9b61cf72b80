"""A PostgreSQL for large stores, and the stores that are kept in it between two benches."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from chassis.postgres import Connection
from chassis.postgres.migrations import migrate
from homeroom.data_directory import DataDirectory
from homeroom.embedded.postgres import SETTINGS, Cluster
from homeroom.embedded.provisioning import ServiceDatabase, provision
from homeroom.schema import migration_folders

# Checkpoints come only on request. All other settings are those of `make up`.
LARGE = {**SETTINGS, "shared_buffers": "4GB", "max_wal_size": "100GB", "checkpoint_timeout": "1d"}
# A store that is built again when the machine fails need not be durable while it is built.
BUILDING = {
    **LARGE,
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "autovacuum": "off",
}
MARK = "bench-store"
TELLING_SECONDS = 10.0

Build = Callable[[Connection], Awaitable[object]]


@asynccontextmanager
async def kept_store(
    service: str, build: Build, *, signature: str, data: Path | None = None, keep: bool = False
) -> AsyncIterator[ServiceDatabase]:
    """The database of a service, migrated and filled by `build`, in a PostgreSQL of its own.

    Args:
        service: `session`, `subscription` or `progress`.
        build: fills the empty database; gets the connection of a superuser.
        signature: what is built. A store that was kept with the same signature is used again as it is; one
            with another signature is built anew.
        data: the folder; a temporary one that is removed afterwards if None.
        keep: leave the folder as it is then. Otherwise it is removed.

    Raises RuntimeError if the folder holds something else.
    """
    folder = Path(tempfile.mkdtemp(prefix="homeroom-scale-")) if data is None else data
    mark = _claim(folder)
    directory = DataDirectory(folder)
    try:
        with directory.held():
            if mark.read_text() != signature:
                mark.write_text("")
                shutil.rmtree(directory.postgres, ignore_errors=True)
                async with _running(directory, service, BUILDING) as database:
                    await migrate(database.owner, migration_folders(f"{service}_service"))
                    connection = await asyncpg.connect(database.superuser)
                    try:
                        await build(connection)
                        await connection.execute("CHECKPOINT")
                    finally:
                        await connection.close()
                mark.write_text(signature)
            async with _running(directory, service, LARGE) as database:
                yield database
    finally:
        if data is None or not keep:
            shutil.rmtree(folder)


def _claim(folder: Path) -> Path:
    """The file that marks the folder as ours, and says what is built there."""
    mark = folder / MARK
    folder.mkdir(parents=True, exist_ok=True)
    if not mark.exists():
        if any(folder.iterdir()):
            raise RuntimeError(f"{folder} holds something that is not a store of this bench")
        mark.touch()
    return mark


@asynccontextmanager
async def _running(
    directory: DataDirectory, service: str, settings: dict[str, str]
) -> AsyncIterator[ServiceDatabase]:
    secrets = directory.secrets()
    cluster = Cluster(
        directory.postgres,
        password=secrets.get("postgres"),
        run=directory.run,
        log=directory.log("postgres"),
        settings=settings,
    )
    await cluster.start()
    try:
        yield await provision(cluster, secrets, service)
    finally:
        await cluster.stop()


def telling(say: Callable[[str], object], what: str, total: int) -> Callable[[int], None]:
    """A callback for a build, which says now and then how far it is."""
    began = told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= TELLING_SECONDS or done >= total:
            told = now
            say(f"{done:,} of {total:,} {what} after {now - began:.0f} s")

    return tell
