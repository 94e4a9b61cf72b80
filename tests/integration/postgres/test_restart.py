"""PostgreSQL may crash and come back under load: what was committed is there, and work goes on."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from chassis.errors import Reason, ServiceError
from chassis.postgres import OutcomeUnknown
from homeroom.embedded.postgres import Cluster
from tests.support.notes import INSERT, TABLES, insert, one, opened, soon


@pytest.fixture
async def durable() -> AsyncIterator[Cluster]:
    """A PostgreSQL of its own, with the settings that keep what was committed."""
    folder = Path(tempfile.mkdtemp(prefix="homeroom-restart-"))
    cluster = Cluster(folder / "postgres", password="secret", run=folder / "run", log=folder / "log")
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop(immediately=True)
        shutil.rmtree(folder)


@pytest.mark.fault
@pytest.mark.timeout(180)
async def test_what_was_committed_outlives_crashes_of_the_server_and_work_goes_on_by_itself(
    durable: Cluster,
) -> None:
    dsn = durable.dsn("postgres")
    admin = await asyncpg.connect(dsn)
    await admin.execute(TABLES)
    await admin.close()
    committed: set[str] = set()
    refused: set[str] = set()
    unknown: set[str] = set()
    reasons: set[Reason] = set()
    finished = asyncio.Event()

    async with opened(dsn, minimum=2, maximum=4) as database:

        async def learner(number: int) -> None:
            for step in itertools.count():
                if finished.is_set():
                    return
                user_id = f"{number}-{step}"
                try:
                    if step % 2:
                        await database.write(insert(user_id), deadline=soon())
                    else:
                        await database.execute_write(INSERT, user_id, deadline=soon())
                except OutcomeUnknown:
                    unknown.add(user_id)
                except ServiceError as error:
                    reasons.add(error.reason)
                    refused.add(user_id)
                    await asyncio.sleep(0.01)  # a server that is down refuses quickly: do not drown the test
                else:
                    committed.add(user_id)

        async def saboteur() -> None:
            try:
                for _ in range(3):
                    await more_commits()
                    await durable.stop(immediately=True)
                    await durable.start()
                await more_commits()
            finally:
                finished.set()

        async def more_commits() -> None:
            enough = len(committed) + 100
            async with asyncio.timeout(60):
                while len(committed) < enough:
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(learner(number) for number in range(8)), saboteur())
        assert await database.read(one, deadline=soon()) == 1

    admin = await asyncpg.connect(dsn)
    rows = {row["user_id"] for row in await admin.fetch("SELECT user_id FROM notes WHERE body = 'hello'")}
    await admin.close()
    assert refused, "the server was never seen to be down"
    assert reasons <= {Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED}
    assert committed <= rows, "a write that was reported as committed is missing"
    assert not refused & rows, "a write that was reported as not done is there"
    assert rows <= committed | unknown
