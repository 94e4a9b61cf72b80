"""A database that is there but does not answer costs its callers their deadlines, and no others anything."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database, DatabaseUnavailable, OutcomeUnknown
from homeroom.embedded.postgres import Cluster
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.notes import INSERT, insert, one, opened, soon, written
from tests.support.waiting import eventually

pytestmark = pytest.mark.fault


@contextmanager
def stopped(pid: int, *, at_once: bool = True) -> Iterator[None]:
    """Stop a process now, or let the block do so, and let it go on after the block."""
    try:
        if at_once:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def backend(connection: Connection) -> Any:
    return await connection.fetchval("SELECT pg_backend_pid()")


@asynccontextmanager
async def answering_again(database: Database) -> AsyncIterator[None]:
    """The caller is answered while its connection is still being cleaned, however long that takes."""
    async with asyncio.timeout(30):
        yield
    assert database.pool_idle == 0
    await eventually(lambda: database.pool_idle == database.pool_size)
    assert await database.read(one, deadline=soon()) == 1


@pytest.fixture
def patient_cleaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.postgres.pool.CLEANING_SECONDS", 3600.0)


@pytest.mark.usefixtures("patient_cleaning")
async def test_a_read_ends_in_time(database: Database) -> None:
    pid = await database.read(backend, deadline=soon())
    async with answering_again(database):
        with stopped(pid), pytest.raises(ServiceError) as caught:
            await database.read(one, deadline=soon(0.3))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


@pytest.mark.usefixtures("patient_cleaning")
async def test_a_ping_gives_up_by_itself(database: Database) -> None:
    await database.ping()
    pid = await database.read(backend, deadline=soon())
    async with answering_again(database):
        with stopped(pid), pytest.raises(ServiceError) as caught:
            await database.ping()
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


async def test_a_ping_of_a_busy_pool_gives_up_by_itself(
    empty_database: ServiceDatabase, postgres: Cluster
) -> None:
    assert postgres.pid is not None
    async with opened(empty_database.service, minimum=1, maximum=1) as database:

        async def hold(_connection: Connection) -> None:
            database._pool.answered_at -= 60
            with stopped(postgres.pid), pytest.raises(DatabaseUnavailable, match="does not answer"):
                await database.ping()

        await database.read(hold, deadline=soon(30))
        await database.ping()


@pytest.mark.usefixtures("patient_cleaning")
async def test_a_transaction_that_cannot_begin_ends_in_time(database: Database, admin: Connection) -> None:
    pid = await database.read(backend, deadline=soon())
    async with answering_again(database):
        with stopped(pid), pytest.raises(ServiceError) as caught:
            await database.write(insert("ann"), deadline=soon(0.3))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert not await written(admin, "ann")


async def test_a_transaction_under_way_ends_and_wrote_nothing(database: Database, admin: Connection) -> None:
    pid = await database.read(backend, deadline=soon())

    async def work(connection: Connection) -> Any:
        await connection.fetchval(INSERT, "ann")
        os.kill(pid, signal.SIGSTOP)
        return await connection.fetchval(INSERT, "bob")

    with stopped(pid, at_once=False), pytest.raises(ServiceError) as caught:
        await database.write(work, deadline=soon(0.3))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert not await written(admin, "ann")
    assert not await written(admin, "bob")
    assert await database.read(one, deadline=soon()) == 1


@pytest.mark.usefixtures("patient_cleaning")
async def test_a_statement_that_is_not_answered_is_unknown(database: Database) -> None:
    pid = await database.read(backend, deadline=soon())
    async with answering_again(database):
        with stopped(pid), pytest.raises(OutcomeUnknown):
            await database.execute_write(INSERT, "ann", deadline=soon(0.3))


async def test_others_go_on_over_other_connections(database: Database, admin: Connection) -> None:
    pid = await database.read(backend, deadline=soon())
    with stopped(pid):
        stuck = asyncio.create_task(database.read(one, deadline=soon(1.0)))
        await eventually(lambda: database.pool_idle == 0)
        await database.write(insert("ann"), deadline=soon())
        assert await written(admin, "ann")
        with pytest.raises(ServiceError):
            await stuck
