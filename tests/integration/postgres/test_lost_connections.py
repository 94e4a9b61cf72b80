"""A write is reported as done, not done or unknown. The report is true for every kind of lost connection."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from chassis.postgres import (
    Connection,
    ConstraintViolation,
    Database,
    DatabaseUnavailable,
    OutcomeUnknown,
)
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.notes import INSERT, insert, one, opened, soon, terminate_backends, written
from tests.support.postgres_proxy import Loss, PostgresProxy
from tests.support.waiting import eventually


async def test_a_read_survives_the_loss_of_its_connection_once(database: Database, admin: Connection) -> None:
    runs = 0

    async def work(connection: Connection) -> Any:
        nonlocal runs
        runs += 1
        if runs == 1:
            assert await terminate_backends(admin) == 1
        return await connection.fetchval("SELECT 42")

    assert await database.read(work, deadline=soon()) == 42
    assert runs == 2


async def test_a_read_gives_up_when_its_connection_is_lost_twice(
    database: Database, admin: Connection
) -> None:
    async def work(connection: Connection) -> Any:
        await terminate_backends(admin)
        return await one(connection)

    with pytest.raises(DatabaseUnavailable):
        await database.read(work, deadline=soon())
    assert await database.read(one, deadline=soon()) == 1


async def test_a_connection_lost_before_the_commit_means_that_nothing_was_written(
    database: Database, admin: Connection
) -> None:
    async def work(connection: Connection) -> None:
        await connection.fetchval(INSERT, "ann")
        await terminate_backends(admin)
        await one(connection)

    with pytest.raises(DatabaseUnavailable):
        await database.write(work, deadline=soon())
    assert not await written(admin, "ann")


async def test_a_connection_that_is_known_to_be_gone_when_the_commit_is_due_means_nothing_was_written(
    database: Database, admin: Connection
) -> None:
    async def work(connection: Connection) -> None:
        await connection.fetchval(INSERT, "ann")
        await terminate_backends(admin)

        async def noticed() -> bool:
            return connection.is_closed()

        await eventually(noticed)

    with pytest.raises(DatabaseUnavailable):
        await database.write(work, deadline=soon())
    assert not await written(admin, "ann")


async def test_connections_that_died_while_idle_are_replaced_unnoticed(
    database: Database, admin: Connection
) -> None:
    await database.write(insert("ann"), deadline=soon())
    assert await terminate_backends(admin) == 1
    await database.write(insert("bob"), deadline=soon())
    assert await written(admin, "bob")


async def test_an_idle_connection_that_dies_as_the_transaction_begins_is_replaced(
    proxied: Database, proxy: PostgresProxy, admin: Connection
) -> None:
    proxy.lose(b"BEGIN", Loss.REQUEST)
    await proxied.write(insert("ann"), deadline=soon())
    assert proxy.lost == 1
    assert await written(admin, "ann")


@pytest.mark.parametrize("loss", list(Loss))
async def test_a_commit_without_an_answer_is_unknown(
    proxied: Database, proxy: PostgresProxy, admin: Connection, loss: Loss
) -> None:
    proxy.lose(b"COMMIT", loss)
    with pytest.raises(OutcomeUnknown):
        await proxied.write(insert("ann"), deadline=soon(0.5))
    assert proxy.lost == 1
    assert await written(admin, "ann") == (loss is not Loss.REQUEST)
    await proxied.write(insert("bob"), deadline=soon())  # and the database is usable


@pytest.mark.parametrize("loss", list(Loss))
async def test_a_statement_of_its_own_without_an_answer_is_unknown(
    proxied: Database, proxy: PostgresProxy, admin: Connection, loss: Loss
) -> None:
    await proxied.execute_write(INSERT, "warm", deadline=soon())
    proxy.lose(b"ann", loss)
    with pytest.raises(OutcomeUnknown):
        await proxied.execute_write(INSERT, "ann", deadline=soon(0.5))
    assert proxy.lost == 1
    assert await written(admin, "ann") == (loss is not Loss.REQUEST)
    await proxied.execute_write(INSERT, "bob", deadline=soon())


async def test_a_refusal_at_commit_is_certain(database: Database, admin: Connection) -> None:
    await admin.execute(
        "ALTER TABLE notes ALTER CONSTRAINT notes_course_exists DEFERRABLE INITIALLY DEFERRED"
    )

    async def work(connection: Connection) -> None:
        await connection.execute("INSERT INTO notes (user_id, course_id) VALUES ('ann', 'nowhere')")

    with pytest.raises(ConstraintViolation) as caught:
        await database.write(work, deadline=soon())
    assert caught.value.constraint == "notes_course_exists"
    assert await database.read(one, deadline=soon()) == 1


async def test_a_database_that_nobody_serves_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await Database.connect(f"postgresql://nobody@/nothing?host={tmp_path}&port=1")
    with pytest.raises(DatabaseUnavailable):
        await Database.connect("postgresql://nobody@127.0.0.1:1/nothing")


async def test_a_database_that_went_away_is_unavailable_and_comes_back(
    proxy: PostgresProxy, admin: Connection
) -> None:
    async with opened(proxy.dsn, minimum=1, maximum=2) as database:
        proxy.refuse = True
        await terminate_backends(admin)
        for _ in range(4):
            with pytest.raises(DatabaseUnavailable):
                await database.write(insert("ann"), deadline=soon())
        proxy.refuse = False
        await database.write(insert("ann"), deadline=soon())
        assert database.pool_size <= 2


async def test_nothing_leaks_when_callers_are_cancelled_and_connections_die_at_random(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    committed: set[str] = set()
    undecided: set[str] = set()
    refused: set[str] = set()
    finished = asyncio.Event()

    async with opened(empty_database.service, minimum=2, maximum=4) as database:

        async def learner(number: int) -> None:
            for step in itertools.count():
                if finished.is_set():
                    return
                user_id = f"{number}-{step}"
                call = (
                    database.write(insert(user_id), deadline=soon())
                    if chance.random() < 0.5
                    else database.execute_write(INSERT, user_id, deadline=soon())
                )
                undecided.add(user_id)
                try:
                    async with asyncio.timeout(chance.choice([0.0005, 0.002, 5.0])):
                        await call
                except (TimeoutError, OutcomeUnknown):
                    continue
                except DatabaseUnavailable:
                    refused.add(user_id)
                else:
                    committed.add(user_id)
                undecided.discard(user_id)

        async def reader() -> None:
            while not finished.is_set():
                try:
                    async with asyncio.timeout(chance.choice([0.0005, 5.0])):
                        await database.read(one, deadline=soon())
                except (TimeoutError, DatabaseUnavailable):
                    continue

        async def killer() -> None:
            for _ in range(10):
                await terminate_backends(admin)
                enough = 40 + len(committed)
                async with asyncio.timeout(20):
                    while len(committed) < enough:
                        await asyncio.sleep(0)
            finished.set()

        await asyncio.gather(*(learner(number) for number in range(16)), reader(), reader(), killer())
        async with asyncio.timeout(10):
            await asyncio.gather(*(database.read(one, deadline=soon()) for _ in range(16)))

        async def all_back() -> bool:
            return database.pool_idle == database.pool_size and not database.pool_waiting

        await eventually(all_back)
        assert 1 <= database.pool_size <= 4
    rows = {row["user_id"] for row in await admin.fetch("SELECT user_id FROM notes")}
    assert undecided, "nothing was cut"
    assert committed <= rows, "a write that was reported as committed is missing"
    assert not refused & rows, "a write that was reported as not done is there"
    assert rows - {"locked-1", "locked-2"} <= committed | undecided
