"""Behind pgbouncer in transaction mode everything works without prepared statements."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg
import pytest

from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.notes import INSERT, opened, soon
from tests.support.pgbouncer import pgbouncer


async def insert_both_ways(database: Database, number: int) -> None:
    """A write, a transaction with two statements, and a read, as the stores do them."""

    async def work(connection: Connection) -> None:
        await connection.fetchval(INSERT, f"transaction-{number}")
        await connection.execute("UPDATE notes SET stars = $2 WHERE user_id = $1", f"statement-{number}", 3)

    await database.execute_write(INSERT, f"statement-{number}", deadline=soon(30))
    await database.write(work, deadline=soon(30))
    found = await database.read(
        lambda connection: connection.fetchval(
            "SELECT stars FROM notes WHERE user_id = $1", f"statement-{number}"
        ),
        deadline=soon(30),
    )
    assert found == 3


async def test_two_hundred_writers_at_once_without_a_statement_cache(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    async with (
        pgbouncer(empty_database.service) as (address,),
        opened(address, maximum=16, statement_cache_size=0) as database,
    ):
        await asyncio.gather(*(insert_both_ways(database, number) for number in range(200)))
    for kind in ("statement-%", "transaction-%"):
        assert await admin.fetchval("SELECT count(*) FROM notes WHERE user_id LIKE $1", kind) == 200


async def test_with_a_statement_cache_the_refusal_names_the_setting(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    async with (
        pgbouncer(empty_database.service) as (address,),
        opened(address, maximum=16) as database,
    ):
        outcomes = await asyncio.gather(
            *(insert_both_ways(database, number) for number in range(200)), return_exceptions=True
        )
    failures = [outcome for outcome in outcomes if outcome is not None]
    if not failures:
        pytest.skip("this pgbouncer follows prepared statements")
    assert all(isinstance(failure, ServiceError) for failure in failures), Counter(map(repr, failures))
    assert {failure.reason for failure in failures} == {Reason.UNAVAILABLE}
    assert any("HOMEROOM_DATABASE_STATEMENT_CACHE=0" in failure.detail for failure in failures)


async def test_a_transaction_keeps_its_settings_to_itself(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    async with (
        pgbouncer(empty_database.service, pool_size=1) as (address,),
        opened(address, maximum=2, statement_cache_size=0) as database,
    ):
        await database.write(lambda connection: connection.fetchval("SELECT 1"), deadline=soon())
        connection = await asyncpg.connect(address, statement_cache_size=0)
        try:
            assert await connection.fetchval("SHOW lock_timeout") == "0"
        finally:
            await connection.close()
