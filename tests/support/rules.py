"""Rows that the rules of a table refuse, for tests of what finds and mends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.postgres import Connection


async def drop_rules(connection: Connection, table: str) -> tuple[str, str]:
    """The table takes any row from now on. The name and the definition of the CHECK that has its rules."""
    row = await connection.fetchrow(
        """
        SELECT conname, pg_get_constraintdef(oid) AS definition
          FROM pg_constraint
         WHERE conrelid = to_regclass($1) AND contype = 'c' AND conname LIKE '%\\_rules\\__'
        """,
        table,
    )
    assert row is not None
    await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {row['conname']}")
    return row["conname"], row["definition"]


@asynccontextmanager
async def without_rules(connection: Connection, table: str, *, validated: bool = True) -> AsyncIterator[None]:
    """The table takes any row for as long; then its rules hold again, `validated` or for new rows only."""
    name, definition = await drop_rules(connection, table)
    yield
    await connection.execute(
        f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} {'' if validated else 'NOT VALID'}"
    )
