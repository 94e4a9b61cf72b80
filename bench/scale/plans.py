"""The plans of the statements that a store has run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from chassis.postgres import Connection, Database
from chassis.postgres.pool import Pool

LEARNER_TABLES = ("accounts", "subscriptions", "daily_usage", "holds", "credit_balances", "credit_grants")
Work = Callable[[Connection], Awaitable[Any]]


class WatchedDatabase(Database):
    """Keeps the last arguments of every statement, to explain it afterwards."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.statements: dict[str, tuple[Any, ...]] = {}

    async def read(self, work: Any, **keywords: Any) -> Any:
        return await super().read(self._watched(work), **keywords)

    async def write(self, work: Any, **keywords: Any) -> Any:
        return await super().write(self._watched(work), **keywords)

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

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        self._statements[sql] = arguments
        return await self._connection.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: Any) -> Any:
        self._statements[sql] = arguments
        return await self._connection.execute(sql, *arguments)


async def explain(truth: Connection, statements: dict[str, tuple[Any, ...]]) -> dict[str, list[str]]:
    """The generic plan of each statement, run once and rolled back; the key is its first words."""
    plans: dict[str, list[str]] = {}
    for number, (sql, arguments) in enumerate(statements.items()):
        transaction = truth.transaction()
        await transaction.start()
        try:
            await truth.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            await truth.execute(f"PREPARE explained AS {sql}")
            literals = ", ".join([await literal(truth, argument) for argument in arguments])
            values = f"({literals})" if literals else ""
            rows = await truth.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) EXECUTE explained{values}")
            await truth.execute("DEALLOCATE explained")
        finally:
            await transaction.rollback()
        plans[f"{number + 1}. {' '.join(sql.split())[:110]} …"] = [row[0] for row in rows]
    return plans


async def literal(truth: Connection, argument: Any) -> str:
    """An argument as SQL text, quoted by the server itself."""
    if argument is None:
        return "NULL"
    if isinstance(argument, list):
        elements = [None if each is None else str(each) for each in argument]
        return str(await truth.fetchval("SELECT quote_literal($1::text[]::text)", elements))
    return str(await truth.fetchval("SELECT quote_literal($1::text)", str(argument)))


def scans_of_whole_tables(plans: dict[str, list[str]]) -> list[str]:
    """Lines of the plans that read a learner's table from end to end."""
    return [
        f"{name}: {line.strip()}"
        for name, plan in plans.items()
        for line in plan
        if any(f"Seq Scan on {table}" in line for table in LEARNER_TABLES)
    ]
