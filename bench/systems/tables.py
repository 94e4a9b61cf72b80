"""Filling, emptying and counting tables, as the superuser of the bench's own PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import asyncpg

LOCK_ATTEMPTS_MAX = 5


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def create_database(admin_dsn: str, name: str) -> None:
    async with connected(admin_dsn) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')


async def empty_tables(dsn: str) -> list[str]:
    """The tables without rows; when accounts and tests exist, these are the tables that a start writes."""
    _, empty = await _tables(dsn)
    return empty


async def _tables(dsn: str) -> tuple[list[str], list[str]]:
    """The tables with rows, and those without."""
    filled: list[str] = []
    empty: list[str] = []
    async with connected(dsn) as connection:
        for record in await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname = 'public' ORDER BY c.oid"
        ):
            name = record["name"]
            has_rows = await connection.fetchval(f"SELECT EXISTS (SELECT FROM {name})")  # noqa: S608  # from pg_class
            (filled if has_rows else empty).append(name)
    return filled, empty


async def truncate(dsn: str, tables: Sequence[str]) -> None:
    """Empties the tables at once; raises LockNotAvailableError if another session never releases them.

    An emptied table is to the planner as a new one; it is not analyzed, because plans made for zero rows
    would be kept while it fills.
    """
    async with connected(dsn) as connection:
        await connection.execute("SET lock_timeout = '2s'")
        for attempt in range(1, LOCK_ATTEMPTS_MAX + 1):
            try:
                await connection.execute(f"TRUNCATE {', '.join(tables)}")
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                if attempt == LOCK_ATTEMPTS_MAX:
                    raise
            else:
                return


async def copy_rows(dsn: str, table: str, columns: Sequence[str], rows: Iterable[tuple[object, ...]]) -> None:
    async with connected(dsn) as connection:
        await connection.copy_records_to_table(table, columns=columns, records=rows)


async def clone_rows(dsn: str, template: str, copies: Sequence[str]) -> None:
    """Writes each row that names the template again for each copy, with the copy's name in its place.

    So what an account consists of is known to the service that made the template's, not to the bench.
    """
    async with connected(dsn) as connection, connection.transaction():
        await connection.execute(
            "SET LOCAL session_replication_role = replica"
        )  # the tables come in any order
        tables = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname = 'public' ORDER BY c.oid"
        )
        for table in tables:
            await connection.execute(
                f"""
                INSERT INTO {table["name"]}
                SELECT (jsonb_populate_record(
                    NULL::{table["name"]}, replace(to_jsonb(t)::text, $1, copy)::jsonb)).*
                FROM {table["name"]} t CROSS JOIN unnest($2::text[]) AS copy
                WHERE to_jsonb(t)::text LIKE '%' || $1 || '%'
                """,  # noqa: S608  # the name is from pg_class
                template,
                copies,
            )


async def settle(dsn: str) -> None:
    """Vacuums and analyzes the filled tables, so that no autovacuum does it during a run.

    Empty ones are left as autovacuum leaves them; see `truncate`.
    """
    filled, _ = await _tables(dsn)
    async with connected(dsn) as connection:
        await connection.execute(f"VACUUM (ANALYZE) {', '.join(filled)}")


async def checkpoint(dsn: str) -> None:
    """Writes all dirty pages, so that a run does not pay for the one before it."""
    async with connected(dsn) as connection:
        await connection.execute("CHECKPOINT")


async def count(dsn: str, queries: Mapping[str, str]) -> dict[str, int]:
    async with connected(dsn) as connection:
        return {name: int(await connection.fetchval(query) or 0) for name, query in queries.items()}
