"""The plans of the statements that the service has run."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast

import asyncpg

from chassis.postgres import Connection, Database
from chassis.postgres.pool import Pool

Work = Callable[[Connection], Awaitable[Any]]


class WatchedDatabase(Database):
    """Keeps the last arguments of each statement, so that it can be explained afterwards."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.statements: dict[str, tuple[Any, ...]] = {}

    async def read(self, work: Any, **keywords: Any) -> Any:
        return await super().read(self._watched(work), **keywords)

    async def write(self, work: Any, **keywords: Any) -> Any:
        return await super().write(self._watched(work), **keywords)

    async def execute_write(self, sql: str, *arguments: Any, **keywords: Any) -> Any:
        self.statements[sql] = arguments
        return await super().execute_write(sql, *arguments, **keywords)

    def _watched(
        self, work: Callable[[Connection], Awaitable[Any]]
    ) -> Callable[[Connection], Awaitable[Any]]:
        async def watched(connection: Connection) -> Any:
            return await work(cast("Connection", WatchedConnection(connection, self.statements)))

        return watched


class WatchedConnection:
    def __init__(self, connection: Connection, statements: dict[str, tuple[Any, ...]]) -> None:
        self._connection = connection
        self._statements = statements

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        self._statements[sql] = arguments
        return await self._connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: Any) -> Any:
        self._statements[sql] = arguments
        return await self._connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        self._statements[sql] = arguments
        return await self._connection.fetchval(sql, *arguments)

    def transaction(self, **keywords: Any) -> Any:
        return self._connection.transaction(**keywords)

    async def execute(self, sql: str, *arguments: Any) -> Any:
        self._statements[sql] = arguments
        return await self._connection.execute(sql, *arguments)


async def explain(database: WatchedDatabase) -> dict[str, list[str]]:
    """The plan that the database's only connection keeps for each statement, by the statement's beginning.

    The name tells how often the server has planned the statement for its arguments, and how often it has used
    a plan for any arguments. A statement without arguments is not prepared, and has none. Each is run once
    more with its last arguments, and rolled back; if that violates a constraint, its plan has no figures.
    """
    statements = dict(database.statements)

    async def work(connection: Connection) -> dict[str, list[str]]:
        rows = await connection.fetch(
            "SELECT name, statement, custom_plans, generic_plans FROM pg_prepared_statements"
        )
        prepared_as = {row["statement"]: row for row in rows}
        plans: dict[str, list[str]] = {}
        prepared = {sql: given for sql, given in statements.items() if sql in prepared_as}
        for number, (sql, arguments) in enumerate(prepared.items(), start=1):
            as_prepared = prepared_as[sql]
            literals = ", ".join([await literal(connection, argument) for argument in arguments])
            values = f"({literals})" if literals else ""
            execute = f"EXECUTE {as_prepared['name']}{values}"
            try:
                rows = await _rolled_back(connection, f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {execute}")
            except asyncpg.IntegrityConstraintViolationError:  # it has inserted its rows already
                rows = await connection.fetch(f"EXPLAIN (COSTS OFF) {execute}")
            plans[
                f"{number}. {' '.join(sql.split())[:110]} … (planned {as_prepared['custom_plans']} times, "
                f"plan used again {as_prepared['generic_plans']} times)"
            ] = [row[0] for row in rows]
        return plans

    return cast("dict[str, list[str]]", await database.read(work, deadline=time.monotonic() + 60.0))


async def _rolled_back(connection: Connection, sql: str) -> list[asyncpg.Record]:
    await connection.execute("BEGIN")
    try:
        return await connection.fetch(sql)
    finally:
        await connection.execute("ROLLBACK")


async def literal(connection: Connection, argument: Any) -> str:
    """An argument as SQL text, quoted by the server itself."""
    if argument is None:
        return "NULL"
    if isinstance(argument, list):
        elements = [await _text(connection, each) for each in argument]
        return str(await connection.fetchval("SELECT quote_literal($1::text[]::text)", elements))
    return str(await connection.fetchval("SELECT quote_literal($1::text)", str(argument)))


async def _text(connection: Connection, value: Any) -> str | None:
    """A value as PostgreSQL writes it; a tuple is a row of a composite type."""
    if isinstance(value, tuple):
        fields = [await _text(connection, each) for each in value]
        row = ", ".join(f"${place}::text" for place in range(1, len(fields) + 1))
        return str(await connection.fetchval(f"SELECT ROW({row})::text", *fields))  # only numbers
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return None if value is None else str(value)


def scans_of_whole_tables(plans: dict[str, list[str]], tables: Collection[str]) -> list[str]:
    """Lines of the plans that read one of these tables from end to end."""
    return [
        f"{name}: {line.strip()}"
        for name, plan in plans.items()
        for line in plan
        if any(re.search(rf"Seq Scan on {table}\b", line) for table in tables)
    ]
