"""Brings the services' databases to the schema that their programs know; free of cost if they have it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import asyncpg

import chassis.postgres.migrations
import homeroom
from chassis.postgres import Database
from homeroom.services import Service, module_command

_CHECK_SECONDS_MAX = 10.0
_MIGRATE_SECONDS_MAX = 660.0  # a little more than the limit of the migration itself


def migration_folders(package: str) -> dict[str, Path]:
    """The folders of a service's schema, in the order in which they are applied."""
    source = Path(homeroom.__file__).resolve().parent.parent
    return {"chassis": chassis.postgres.migrations.FOLDER, package: source / package / "migrations"}


async def is_current(service: Service, dsn: str) -> bool:
    """Whether the database has exactly the service's migrations."""
    if await _is_empty(dsn):
        return False
    database = await Database.connect(dsn, minimum=0, maximum=1, application_name="homeroom up")
    try:
        async with asyncio.timeout(_CHECK_SECONDS_MAX):
            await chassis.postgres.migrations.check(database, migration_folders(service.package))
    except chassis.postgres.migrations.SchemaMismatch:
        return False
    finally:
        await database.close()
    return True


async def _is_empty(dsn: str) -> bool:
    """Whether no migration was ever applied: an ordinary case here, and an error for a service."""
    connection = await asyncpg.connect(dsn, timeout=_CHECK_SECONDS_MAX)
    try:
        return bool(await connection.fetchval("SELECT to_regclass('schema_migrations') IS NULL"))
    finally:
        await connection.close()


async def migrate(service: Service, *, environment: Mapping[str, str], log: Path) -> None:
    """Run `python -m SERVICE migrate`; RuntimeError with its output if it fails."""
    process = await asyncio.create_subprocess_exec(
        *module_command(service.package),
        "migrate",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(environment),
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _MIGRATE_SECONDS_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(output)
    if process.returncode != 0:
        said = output.decode(errors="replace")[-4000:]
        raise RuntimeError(f"the migration of {service.package} failed:\n{said}")
