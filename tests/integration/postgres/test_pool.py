"""The pool is bounded, fair, and lets go of everything."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from chassis.errors import Reason, ServiceError
from chassis.postgres import (
    Connection,
    Database,
    DatabaseUnavailable,
)
from chassis.postgres.pool import Pool
from chassis.postgres.transactions import read_only
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.notes import INSERT, insert, one, opened, soon, written
from tests.support.postgres_proxy import PostgresProxy
from tests.support.waiting import eventually


async def test_too_many_connections_are_unavailability(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    await admin.execute("ALTER ROLE empty_service CONNECTION LIMIT 1")
    try:
        async with opened(empty_database.service, minimum=1, maximum=2) as database:

            async def work(connection: Connection) -> None:
                with pytest.raises(DatabaseUnavailable):
                    await database.read(one, deadline=soon())

            await database.read(work, deadline=soon())
    finally:
        await admin.execute("ALTER ROLE empty_service CONNECTION LIMIT -1")


async def test_who_finds_no_free_connection_until_the_deadline_is_told_so(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    async with opened(empty_database.service, minimum=1, maximum=1, waiting_max=1) as database:

        async def hold(_connection: Connection) -> None:
            waiting = asyncio.create_task(database.read(one, deadline=soon(0.2)))
            await eventually_waiting(database, 1)
            with pytest.raises(DatabaseUnavailable, match="too many"):
                await database.read(one, deadline=soon())
            with pytest.raises(DatabaseUnavailable, match="in time"):
                await waiting
            assert database.pool_waiting == 0

        await database.read(hold, deadline=soon())
        assert await database.read(one, deadline=soon()) == 1
        assert (database.pool_size, database.pool_idle) == (1, 1)


async def test_a_transaction_whose_beginning_is_interrupted_does_not_spoil_its_connection(
    empty_database: ServiceDatabase,
) -> None:
    async def backend(connection: Connection) -> int:
        async with read_only(connection, "SET LOCAL jit = off", one_snapshot=True):
            return int(await connection.fetchval("SELECT pg_backend_pid()"))

    async with opened(empty_database.service, minimum=1, maximum=1) as database:
        pid = await database.read(backend, deadline=soon())
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(ServiceError) as caught:
                await database.read(backend, deadline=soon(0.2))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert caught.value.reason is Reason.DEADLINE_EXCEEDED
        assert await database.read(backend, deadline=soon()) == pid


async def test_a_busy_pool_answers_a_ping(empty_database: ServiceDatabase) -> None:
    async with opened(empty_database.service, minimum=1, maximum=1, waiting_max=1) as database:

        async def hold(_connection: Connection) -> None:
            waiting = asyncio.create_task(database.read(one, deadline=soon()))
            await eventually_waiting(database, 1)
            await database.ping()  # the connection has answered lately
            database._pool.answered_at -= 60
            await database.ping()  # it has not, and the database is asked over another one
            assert (database.pool_size, database.pool_waiting) == (1, 1)
            asked.append(waiting)

        asked: list[asyncio.Task[int]] = []
        await database.read(hold, deadline=soon())
        assert await asked[0] == 1


async def test_a_busy_pool_does_not_hide_that_the_database_is_gone(empty_database: ServiceDatabase) -> None:
    async with (
        PostgresProxy(empty_database.service).running() as proxy,
        opened(proxy.dsn, minimum=1, maximum=1) as database,
    ):

        async def hold(_connection: Connection) -> None:
            proxy.refuse = True
            database._pool.answered_at -= 60
            with pytest.raises(DatabaseUnavailable):
                await database.ping()
            proxy.refuse = False

        await database.read(hold, deadline=soon())
        await database.ping()


async def eventually_waiting(database: Database, count: int) -> None:
    async def reached() -> bool:
        return database.pool_waiting == count

    await eventually(reached)


async def test_those_who_wait_for_a_connection_get_it_in_their_order(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    served: list[int] = []

    def serve(number: int) -> Callable[[Connection], Awaitable[None]]:
        async def work(connection: Connection) -> None:
            served.append(number)
            await one(connection)

        return work

    async with opened(empty_database.service, minimum=1, maximum=1) as database:

        async def hold(_connection: Connection) -> list[asyncio.Task[None]]:
            tasks = []
            for number in range(5):
                tasks.append(asyncio.create_task(database.read(serve(number), deadline=soon())))
                await eventually_waiting(database, number + 1)
            tasks.pop(2).cancel()  # who leaves the queue does not hold it up
            return tasks

        await asyncio.gather(*await database.read(hold, deadline=soon()))
    assert served == [0, 1, 3, 4]


async def test_closing_waits_for_the_writes_under_way_and_begins_no_more(
    database: Database, admin: Connection
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: Connection) -> None:
        began.set()
        await go_on.wait()
        await connection.fetchval(INSERT, "ann")

    write = asyncio.create_task(database.write(work, deadline=soon()))
    await began.wait()
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0)
    with pytest.raises(DatabaseUnavailable):
        await database.read(one, deadline=soon())
    assert not closing.done()
    go_on.set()
    await closing
    await write
    assert await written(admin, "ann")
    assert await admin.fetchval(
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'under test' AND state <> 'idle'"
    )


async def test_it_works_without_prepared_statements(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    async with opened(empty_database.service, statement_cache_size=0) as database:
        for name in ("ann", "bob"):
            await database.write(insert(name), deadline=soon())
    assert await admin.fetchval("SELECT count(*) FROM notes WHERE user_id IN ('ann', 'bob')") == 2


async def test_a_connection_handed_to_someone_who_is_leaving_goes_to_the_next(
    empty_database: ServiceDatabase,
) -> None:
    pool = Pool(lambda: asyncpg.connect(empty_database.service), maximum=1, waiting_max=2)
    connection = await pool.take()
    leaving, staying = asyncio.create_task(pool.take()), asyncio.create_task(pool.take())
    await eventually(lambda: pool.waiting == 2)
    pool.give_back(connection)
    leaving.cancel()
    async with asyncio.timeout(10):
        assert await staying is connection
    with pytest.raises(asyncio.CancelledError):
        await leaving
    pool.give_back(connection)
    await pool.close()
    assert pool.size == 0
