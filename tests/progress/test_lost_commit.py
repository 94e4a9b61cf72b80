"""A lost answer to COMMIT is not a lost COMMIT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.postgres import Connection, Database
from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.domain.statistics import Recording, Verdict
from tests.progress.conftest import Progress, progress_over
from tests.progress.results import completed, learner
from tests.support.postgres_proxy import Loss, PostgresProxy


@pytest.fixture
async def proxy(progress_database: ServiceDatabase) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(progress_database.service).running() as proxy:
        yield proxy


@pytest.fixture
async def proxied(proxy: PostgresProxy, truth: Connection) -> AsyncIterator[Progress]:
    database = await Database.connect(proxy.dsn, maximum=4)
    yield progress_over(database, truth)
    await database.close()


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER])
async def test_a_commit_that_was_not_answered_is_settled_by_the_session_ids(
    proxied: Progress, proxy: PostgresProxy, loss: Loss
) -> None:
    ada, bob = learner("ada"), learner("bob")
    await proxied.tell(completed(ada, "s0"), completed(bob, "s0"))
    proxy.lose(b"COMMIT", loss)

    outcomes = await proxied.tell(completed(ada, "s1"), completed(bob, "s1"), completed(ada, "s2"))

    assert proxy.lost == 1
    verdict = {Loss.REQUEST: Verdict.RECORDED, Loss.ANSWER: Verdict.REPEATED}[loss]
    expected_versions = [2, 2, 3] if loss is Loss.REQUEST else [3, 2, 3]
    assert outcomes == [Recording(verdict, version) for version in expected_versions]
    assert (await proxied.stats(ada)).statistics.version == 3
    assert (await proxied.stats(bob)).statistics.version == 2
    assert await proxied.discrepancies() == []


async def test_a_caller_that_gives_up_leaves_either_everything_or_nothing(progress: Progress) -> None:
    ada = learner("ada")
    for number in range(20):
        telling = asyncio.create_task(progress.tell(completed(ada, f"s{number}")))
        for _ in range(number):
            await asyncio.sleep(0)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    outcomes = await progress.tell(*(completed(ada, f"s{number}") for number in range(20)))
    assert all(isinstance(outcome, Recording) for outcome in outcomes)
    assert (await progress.stats(ada)).statistics.completed_sessions == 20
    assert await progress.discrepancies() == []
