"""Makes a backup of a running stack: one snapshot of each database, a dump of each, and a manifest."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from chassis.process.version import version
from homeroom.backups import manifest, tools
from homeroom.backups.manifest import BackupError, Dump, Manifest
from homeroom.backups.reading import rows_of_tables
from homeroom.data_directory import DataDirectory
from homeroom.embedded.clusters import cluster_of
from homeroom.embedded.postgres import SUPERUSER, Cluster
from homeroom.services import STORES

_DRAFT = ".unfinished"
_CONNECT_SECONDS_MAX = 10.0
# A dump waits behind a migration that has a table, and everybody else waits behind the dump.
_TABLE_LOCK_MS_MAX = 30_000


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A database as it was at one moment, for as long as its transaction is open."""

    database: str
    name: str
    taken_at: datetime
    connection: asyncpg.Connection


async def back_up(
    data: DataDirectory,
    folder: Path,
    databases: Collection[str],
    *,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> Manifest:
    """Dump these databases of the stack that runs on `data` into `folder`, while it serves.

    The snapshots are taken first, within milliseconds: a service before those that it calls. So whatever a
    snapshot lacks, the others may have it already, and a service that tells it again changes nothing.

    `folder` is empty or missing before; afterwards it has a manifest, or it is as it was. `say` receives each
    step that is done, and `show` how far the step under way is.

    Raises:
        BackupError: the folder is not empty, a database is missing or cannot be dumped.
        OSError: the folder cannot be written.
    """
    cluster = cluster_of(data, data.secrets())
    made_at = datetime.now(UTC)
    with _draft(folder) as draft:
        async with AsyncExitStack() as open_until_dumped:
            snapshots = [
                await open_until_dumped.enter_async_context(_snapshot(cluster, database))
                for database in STORES
                if database in databases
            ]
            dumps = {}
            for snapshot in snapshots:
                dump = await _dump(snapshot, draft, cluster=cluster, data=data, show=show)
                dumps[snapshot.database] = dump
                say(f"{dump.service}: {megabytes(dump.bytes)} with {sum(dump.rows.values()):,} rows")
        made = Manifest(made_at=made_at.isoformat(), homeroom=version(), dumps=dumps)
        _publish(draft, folder, made)
    return made


@asynccontextmanager
async def _snapshot(cluster: Cluster, database: str) -> AsyncIterator[_Snapshot]:
    try:
        connection = await asyncpg.connect(
            cluster.dsn(database),
            timeout=_CONNECT_SECONDS_MAX,
            server_settings={
                "application_name": "homeroom backup",
                "idle_in_transaction_session_timeout": "0",
                "transaction_timeout": "0",
                "statement_timeout": "0",
            },
        )
    except asyncpg.InvalidCatalogNameError:
        raise BackupError(
            f"the database {database} is missing: restore it, or back up the others with --service"
        ) from None
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            name = await connection.fetchval("SELECT pg_export_snapshot()")
            yield _Snapshot(database, name, await connection.fetchval("SELECT now()"), connection)
    finally:
        await connection.close()


async def _dump(
    snapshot: _Snapshot, draft: Path, *, cluster: Cluster, data: DataDirectory, show: Callable[[str], None]
) -> Dump:
    service = STORES[snapshot.database].package
    path = draft / f"{snapshot.database}.dump"
    show(f"{service}: counting rows")
    rows = await rows_of_tables(snapshot.connection)
    schema = await _schema(snapshot)
    path.touch(mode=0o600)
    await tools.run(
        "pg_dump",
        [
            "--format=custom",
            f"--snapshot={snapshot.name}",
            f"--lock-wait-timeout={_TABLE_LOCK_MS_MAX}",
            "--no-unlogged-table-data",
            f"--file={path}",
        ],
        environment=cluster.client_environment(
            snapshot.database, user=SUPERUSER, password=data.secrets().get(SUPERUSER)
        ),
        data=data,
        watch=lambda: show(f"{service}: {megabytes(path.stat().st_size)} written"),
    )
    show(f"{service}: computing the checksum")
    await asyncio.to_thread(_flush, path)
    return Dump(
        service=service,
        database=snapshot.database,
        file=path.name,
        snapshot_at=snapshot.taken_at.isoformat(),
        postgres=str(await snapshot.connection.fetchval("SHOW server_version")).split()[0],
        bytes=path.stat().st_size,
        sha256=await asyncio.to_thread(manifest.sha256_of, path),
        schema=schema,
        rows=rows,
    )


async def _schema(snapshot: _Snapshot) -> dict[str, int]:
    try:
        records = await snapshot.connection.fetch(
            "SELECT component, max(version) AS version FROM schema_migrations GROUP BY component ORDER BY 1"
        )
    except asyncpg.UndefinedTableError:
        raise BackupError(f"the database {snapshot.database} is empty: it was never migrated") from None
    return {record["component"]: record["version"] for record in records}


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for what is not whole yet; if this ends with an error, both are as before.

    A killed backup leaves its draft behind, and the next backup into the same folder removes it.
    """
    existed = folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / _DRAFT
    if found := sorted(path.name for path in folder.iterdir() if path != draft):
        what = "a backup already" if manifest.FILE_NAME in found else f"{found[0]} already"
        raise BackupError(f"{folder} holds {what}, and a backup never overwrites anything: name another")
    draft.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(draft / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"another backup is being written into {folder}") from None
        for leftover in draft.iterdir():
            if leftover.name != "lock":
                leftover.unlink()
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            if not existed:
                with suppress(OSError):  # it holds a backup now
                    folder.rmdir()
    finally:
        os.close(lock)


def _publish(draft: Path, folder: Path, made: Manifest) -> None:
    """Move the dumps out of the draft, and then the manifest, which makes them a backup."""
    files = [dump.file for dump in made.dumps.values()]
    written = draft / manifest.FILE_NAME
    written.write_text(made.as_json(), encoding="utf-8")
    written.chmod(0o600)
    _flush(written)
    try:
        for name in (*files, manifest.FILE_NAME):
            (draft / name).rename(folder / name)
        _flush(folder)
    except BaseException:
        for name in (manifest.FILE_NAME, *files):
            (folder / name).unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    """Have the file, or the names in the folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
