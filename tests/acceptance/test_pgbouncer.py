"""Behind pgbouncer in transaction mode a learner's whole way works, for many learners at once."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from homeroom.embedded.provisioning import ServiceDatabase
from homeroom.services import SERVICES, Service
from homeroom.supervisor import Stack
from tests.support.http_client import HttpClient, unique
from tests.support.invariants import read_books
from tests.support.pgbouncer import pgbouncer
from tests.support.waiting import eventually

LEARNERS = 64
CREDITS = 100
PRICE = 5


class PooledStack(Stack):
    """A stack whose services reach their databases through a pgbouncer each; migrations go there directly.

    It is used inside `poolers`, which ends the pgbouncers after the services.
    """

    def __init__(self, poolers: AsyncExitStack, *, data_dir: Path, env: Mapping[str, str]) -> None:
        super().__init__(data_dir=data_dir, ephemeral=True, redis=False, env=env)
        self._poolers = poolers

    async def _provision(self, service: Service) -> ServiceDatabase | None:
        database = await super()._provision(service)
        if database is None:
            return None
        (through,) = await self._poolers.enter_async_context(pgbouncer(database.service))
        return replace(database, service=through)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pooled() -> AsyncIterator[PooledStack]:
    # Not pytest's own folder: as root it is closed to the user that PostgreSQL runs as.
    root = Path(tempfile.mkdtemp(prefix="homeroom-pooled-"))
    try:
        async with (
            AsyncExitStack() as poolers,
            PooledStack(
                poolers, data_dir=root / "data", env={"HOMEROOM_DATABASE_STATEMENT_CACHE": "0"}
            ) as running,
        ):
            yield running
            errors = await running.internal_errors()
            assert errors == dict.fromkeys((service.package for service in SERVICES), 0)
    finally:
        shutil.rmtree(root)


@pytest_asyncio.fixture(loop_scope="session")
async def http(pooled: PooledStack) -> AsyncIterator[HttpClient]:
    client = HttpClient(base_url=pooled.gateway_url, token=pooled.token)
    yield client
    await client.close()


async def a_day(http: HttpClient, user: str, tests: list[str]) -> None:
    """Starts, double-clicks, answers, completes, abandons, and reads every list; nothing is refused."""
    await http.put_account(user)
    granted = await http.admin(
        "POST",
        f"/v1/accounts/{user}/credits",
        json={"amount": CREDITS, "reason": "welcome"},
        key=f"grant-{user}",
    )
    assert granted.status == 200, granted.text
    for test in tests:
        first, again = await asyncio.gather(
            http.start(user, test, key=f"start-{test}"), http.start(user, test, key=f"start-{test}")
        )
        assert (first.status, again.status) == (201, 201)
        assert first.text == again.text
        path = f"/v1/sessions/{first.body['sessionId']}"
        if test == tests[-1]:
            ended = await http.send("POST", f"{path}:abandon", user=user, key=f"leave-{test}", json={})
            assert ended.body["state"] == "ABANDONED", ended.text
            continue
        answered = await http.send(
            "POST",
            f"{path}/answers",
            user=user,
            key=f"answer-{test}",
            json={"questionId": "q1", "choice": "2"},
        )
        assert answered.body["correct"] is True, answered.text
        ended = await http.send("POST", f"{path}:complete", user=user, key=f"complete-{test}", json={})
        assert ended.body["state"] == "COMPLETED", ended.text
    listed = await http.send("GET", "/v1/sessions?pageSize=2", user=user)
    rest = await http.send(
        "GET", f"/v1/sessions?pageSize=2&pageToken={listed.body['nextPageToken']}", user=user
    )
    assert len(listed.body["sessions"]) + len(rest.body["sessions"]) == len(tests)
    for path in ("/v1/tests", "/v1/plans", "/v1/licenses", "/v1/accounts/me"):
        assert (await http.send("GET", path, user=user)).status == 200


async def test_64_learners_at_once_meet_no_error(pooled: PooledStack, http: HttpClient) -> None:
    prefix = unique("pooled")
    tests = [f"{prefix}-t{number}" for number in range(3)]
    for test in tests:
        await http.put_test(test, questions=1, creditCost=PRICE)
    users = [f"{prefix}-{number}" for number in range(LEARNERS)]
    await asyncio.gather(*(a_day(http, user, tests) for user in users))

    async def settled() -> bool:
        return (await read_books(pooled)).settled

    await eventually(settled, seconds=60)
    assert (await read_books(pooled)).wrong_counters == []
    for user in users:
        entitlements = await http.entitlements(user)
        assert (entitlements["tests"]["used"], entitlements["tests"]["held"]) == (2, 0)
        assert entitlements["credits"] == {
            "balance": CREDITS - 2 * PRICE,
            "held": 0,
            "available": CREDITS - 2 * PRICE,
        }
        stats = await http.stats(user)
        assert (stats["completedSessions"], stats["answers"], stats["correct"]) == (2, 2, 2)
        entries = await http.send("GET", "/v1/credits/entries", user=user)
        assert sum(entry["amount"] for entry in entries.body["entries"]) == CREDITS - 2 * PRICE
    assert set(http.statuses) == {200, 201}, http.statuses


@pytest.mark.fault
async def test_a_crash_of_postgresql_behind_it_is_unavailability_and_no_more(
    pooled: PooledStack, http: HttpClient
) -> None:
    prefix = unique("pooled")
    await http.put_test(prefix)
    users = [f"{prefix}-{number}" for number in range(LEARNERS)]
    for user in users:
        await http.put_account(user)
    starting = asyncio.gather(*(http.start_until_answered(user, prefix, key="s") for user in users))
    await pooled.restart_postgres(immediately=True)
    assert {answer.status for answer in await starting} == {201}
    assert set(http.statuses) <= {200, 201, 503, 504}, http.statuses
