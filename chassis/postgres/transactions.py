"""Transactions that only read, on a connection of the pool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.postgres.pool import Connection


@asynccontextmanager
async def read_only(
    connection: Connection, settings: str = "", *, one_snapshot: bool = False
) -> AsyncIterator[None]:
    """A transaction that changes nothing. After an error it stays open, and the pool rolls it back.

    asyncpg's `Connection.transaction` must not be used on a connection of the pool. When its BEGIN is
    interrupted, the connection takes each later transaction for a nested one, and all of them fail.

    Args:
        connection: it has no transaction.
        settings: `SET LOCAL` statements.
        one_snapshot: whether all statements see the store as it was at the first one.
    """
    isolation = "REPEATABLE READ" if one_snapshot else "READ COMMITTED"
    await connection.execute(f"BEGIN ISOLATION LEVEL {isolation} READ ONLY; {settings}")
    yield
    await connection.execute("COMMIT")
