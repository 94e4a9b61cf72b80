"""Exchanges restored databases for those in use, all in one transaction, and keeps the old ones."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection
from datetime import datetime

import asyncpg

from homeroom.backups.manifest import BackupError
from homeroom.services import STORES

_KEPT = re.compile(rf"(?:{'|'.join(STORES)})_before_\d{{8}}t\d{{9}}z")
_SWAP_SECONDS_MAX = 30.0
_PAUSE_SECONDS = 0.1


def restoring_name(database: str) -> str:
    """The database into which this one is restored."""
    return f"{database}_restoring"


async def swap(
    admin: asyncpg.Connection, databases: Collection[str], *, moment: datetime
) -> dict[str, str | None]:
    """Put the restored databases in the places of these; returns the names that the old ones have now.

    PostgreSQL renames only a database to which nobody is connected. So nobody writes into the old one at the
    moment of the exchange, and whoever connects to the name afterwards has the new one. All are exchanged, or
    none is. Raises BackupError if clients keep coming back.
    """
    kept: dict[str, str | None] = {}
    for database in databases:
        exists = await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", database)
        milliseconds = moment.microsecond // 1000
        kept[database] = f"{database}_before_{moment:%Y%m%dt%H%M%S}{milliseconds:03}z" if exists else None
    give_up_at = time.monotonic() + _SWAP_SECONDS_MAX
    while True:
        await _disconnect_all(admin, [*databases, *map(restoring_name, databases)])
        try:
            async with admin.transaction():
                for database, old in kept.items():
                    if old is not None:
                        await admin.execute(f'ALTER DATABASE "{database}" RENAME TO "{old}"')
                    await admin.execute(f'ALTER DATABASE "{restoring_name(database)}" RENAME TO "{database}"')
        except asyncpg.ObjectInUseError as error:
            if time.monotonic() > give_up_at:
                raise BackupError(f"clients keep connecting, so nothing was exchanged: {error}") from error
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return kept


async def list_kept(admin: asyncpg.Connection) -> list[str]:
    """The databases that restores have kept."""
    rows = await admin.fetch("SELECT datname FROM pg_database ORDER BY datname")
    return [row["datname"] for row in rows if _KEPT.fullmatch(row["datname"])]


async def discard(admin: asyncpg.Connection, name: str) -> None:
    """Drop a database that a restore has kept; BackupError if this is none."""
    if name not in await list_kept(admin):
        raise BackupError(f"{name} is no database that a restore has kept")
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


async def _disconnect_all(admin: asyncpg.Connection, databases: Collection[str]) -> None:
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = any($1::name[])",
        list(databases),
    )
