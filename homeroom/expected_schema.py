"""`python -m homeroom.expected_schema`: records what the migrations of each service make.

The checks of the environment compare the database of a running service with these records.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import asyncpg

from chassis.diagnostics.environment.schema import FILE_NAME, record
from chassis.postgres.migrations import migrate
from homeroom.embedded.postgres import SETTINGS, SUPERUSER, Cluster
from homeroom.embedded.provisioning import provision
from homeroom.schema import migration_folders
from homeroom.secrets_file import SecretsFile
from homeroom.services import SERVICES, Service

_FAST = {**SETTINGS, "fsync": "off"}


def file_of(service: Service) -> Path:
    """The record of a service."""
    return migration_folders(service.package)[service.package] / FILE_NAME


async def recorded(dsn: str) -> str:
    """What the migrations have made in this database, as the record has it."""
    connection = await asyncpg.connect(dsn)
    try:
        return await record(connection)
    finally:
        await connection.close()


async def _write(folder: Path) -> None:
    secrets = SecretsFile(folder / "secrets.json")
    cluster = Cluster(
        folder / "postgres",
        password=secrets.get(SUPERUSER),
        run=folder / "run",
        log=folder / "postgres.log",
        settings=_FAST,
    )
    try:
        await cluster.start()
        for service in SERVICES:
            if service.database is None:
                continue
            database = await provision(cluster, secrets, service.database)
            await migrate(database.owner, migration_folders(service.package))
            file_of(service).write_text(await recorded(database.service), encoding="utf-8")
    finally:
        await cluster.stop(immediately=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="homeroom-") as name:
        asyncio.run(_write(Path(name)))
