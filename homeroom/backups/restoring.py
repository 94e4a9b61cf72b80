"""Restores databases from a backup: beside the ones in use, and in their place only when all is well."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from chassis.postgres import migrations
from homeroom import schema
from homeroom.backups import manifest, tools
from homeroom.backups.follow_ups import follow_up
from homeroom.backups.manifest import BackupError, Dump, Manifest
from homeroom.backups.reading import rows_of_tables
from homeroom.backups.swapping import restoring_name, swap
from homeroom.data_directory import DataDirectory
from homeroom.embedded.postgres import Cluster
from homeroom.embedded.provisioning import (
    ServiceDatabase,
    ensure_roles,
    grant_database,
    grant_schema,
    service_database,
)
from homeroom.services import STORES, import_path


@dataclass(frozen=True, slots=True)
class Restored:
    """A database that is in place again; `kept` is the new name of the one that was there before."""

    service: str
    database: str
    snapshot_at: str
    rows: int
    migrated: bool
    kept: str | None


def check(folder: Path, databases: Collection[str], *, say: Callable[[str], None]) -> Manifest:
    """The manifest of a backup that this program can restore these databases from.

    Raises BackupError: the backup lacks one, a file is damaged, or its schema is newer than this program.
    """
    found = manifest.read(folder)
    if missing := [name for name in databases if name not in found.dumps]:
        raise BackupError(f"{folder} has no dump of {', '.join(missing)}; it has {', '.join(found.dumps)}")
    for dump in (found.dumps[name] for name in databases):
        _refuse_newer(dump)
        manifest.verify(folder, dump)
        say(f"{dump.service}: the dump of {dump.snapshot_at} is whole")
    return found


def _refuse_newer(dump: Dump) -> None:
    known: dict[str, int] = {}
    for migration in migrations.load(schema.migration_folders(dump.service)):
        known[migration.component] = max(migration.version, known.get(migration.component, 0))
    for component, version in dump.schema.items():
        if version > known.get(component, version):
            raise BackupError(
                f"the dump of {dump.service} has migration {version:03d} of {component}, and this program "
                f"knows only {known[component]:03d}: restore it with the program that has made it, or a newer"
            )


async def restore(
    data: DataDirectory,
    cluster: Cluster,
    folder: Path,
    dumps: Mapping[str, Dump],
    *,
    empty_cache: Callable[[], Awaitable[None]],
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> list[Restored]:
    """Replace these databases. No process of their services may run meanwhile.

    Each dump is restored into a new database, compared with the manifest, and migrated. Then one transaction
    exchanges the names of all. If anything fails before, and however this process ends, the databases in use
    stay as they are; the next restore removes what is left over.

    `empty_cache` is called before the exchange. What Redis has may be newer than the restored database, and a
    newer value would keep its place.

    Raises BackupError, asyncpg.PostgresError, OSError.
    """
    admin = await asyncpg.connect(cluster.dsn("postgres"))
    try:
        try:
            migrated = {
                name: await _restore_beside(
                    data, cluster, admin, folder / dump.file, dump, show=show, say=say
                )
                for name, dump in dumps.items()
            }
            await follow_up(cluster, dumps, say=say)
            await empty_cache()
            kept = await swap(admin, dumps, moment=datetime.now(UTC))
        except BaseException:
            for name in dumps:
                await _drop(admin, restoring_name(name))
            raise
    finally:
        await admin.close()
    say(f"exchanged; kept: {', '.join(filter(None, kept.values())) or 'nothing, because nothing was there'}")
    return [
        Restored(
            service=dump.service,
            database=name,
            snapshot_at=dump.snapshot_at,
            rows=sum(dump.rows.values()),
            migrated=migrated[name],
            kept=kept[name],
        )
        for name, dump in dumps.items()
    ]


async def _restore_beside(
    data: DataDirectory,
    cluster: Cluster,
    admin: asyncpg.Connection,
    file: Path,
    dump: Dump,
    *,
    show: Callable[[str], None],
    say: Callable[[str], None],
) -> bool:
    """Make the new database; returns whether it had to be migrated.

    Its owner restores it, with the rights of an owner only: what the service's role may do comes from the
    default privileges, as in a database that a migration has made.
    """
    secrets, owner, name = data.secrets(), f"{dump.database}_owner", restoring_name(dump.database)
    await ensure_roles(admin, secrets, dump.database)
    await _drop(admin, name)
    await admin.execute(f'CREATE DATABASE "{name}" OWNER "{owner}" TEMPLATE template0')
    await grant_database(admin, database=name, service=dump.database)
    await grant_schema(cluster.dsn(name), dump.database)
    await tools.run(
        "pg_restore",
        ["--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={name}", str(file)],
        environment=cluster.client_environment(name, user=owner, password=secrets.get(owner)),
        data=data,
        watch=lambda: show(f"{dump.service}: restoring"),
    )
    database = service_database(cluster, secrets, database=name, service=dump.database)
    connection = await asyncpg.connect(database.owner)
    try:
        show(f"{dump.service}: comparing with the manifest")
        _compare(dump, await rows_of_tables(connection))
        migrated = await _migrate(data, dump, database, show=show)
        show(f"{dump.service}: gathering statistics for the planner")
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    say(f"{dump.service}: {sum(dump.rows.values()):,} rows restored{', and migrated' if migrated else ''}")
    return migrated


def _compare(dump: Dump, rows: Mapping[str, int]) -> None:
    if differing := [name for name in {*rows, *dump.rows} if rows.get(name) != dump.rows.get(name)]:
        raise BackupError(
            f"{dump.service}: the restored copy is not what the manifest says: "
            + ", ".join(
                f"{name} has {rows.get(name)}, not {dump.rows.get(name)}" for name in sorted(differing)
            )
        )


async def _migrate(
    data: DataDirectory, dump: Dump, database: ServiceDatabase, *, show: Callable[[str], None]
) -> bool:
    service = STORES[dump.database]
    if await schema.is_current(service, database.owner):
        return False
    show(f"{dump.service}: migrating")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")}
    environment |= {"PYTHONPATH": import_path(), "HOMEROOM_MIGRATION_DATABASE_URL": database.owner}
    try:
        await schema.migrate(service, environment=environment, log=data.log(service.package))
    except RuntimeError as error:
        raise BackupError(str(error)) from error
    return True


async def _drop(admin: asyncpg.Connection, name: str) -> None:
    await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
