"""What a backup counts in a database, so that a restore can compare it."""

from __future__ import annotations

import asyncpg


async def rows_of_tables(connection: asyncpg.Connection) -> dict[str, int]:
    """How many rows each table has in the connection's snapshot; unlogged tables are not in a dump."""
    tables = await connection.fetch(
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relpersistence = 'p'"
        " ORDER BY relname"
    )
    counts = {}
    for table in tables:
        name = table["relname"].replace('"', '""')
        counts[table["relname"]] = int(
            await connection.fetchval(f'SELECT count(*) FROM public."{name}"')  # noqa: S608 - a quoted name
        )
    return counts
