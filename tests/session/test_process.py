"""`python -m session_service` as a process: migrate, serve through the carrier, die, and end in order."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from chassis import failpoints
from chassis.batch import Item
from chassis.client import Upstream
from chassis.errors import Reason, ServiceError
from chassis.metrics import Metrics
from chassis.tracing import Tracing
from homeroom.embedded.provisioning import ServiceDatabase
from tests.session.world import TOKEN, Session, World, body, reasons
from tests.support.waiting import eventually

SECONDS_MAXIMUM = 30.0


class Process:
    """The service as a child of the test, on free ports that its log names."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.port = 0
        self.ops_port = 0

    async def serving(self) -> None:
        assert self.child.stdout is not None
        log: list[str] = []
        async with asyncio.timeout(SECONDS_MAXIMUM):
            while line := (await self.child.stdout.readline()).decode():
                log.append(line)
                if '"event":"serving"' in line:
                    event = orjson.loads(line)
                    self.port, self.ops_port = event["port"], event["ops_port"]
                    return
        raise AssertionError("".join(log))

    async def ended(self) -> int:
        async with asyncio.timeout(SECONDS_MAXIMUM):
            return await self.child.wait()

    async def ops(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{self.ops_port}{path}") as response,
        ):
            return response.status, await response.text()

    @asynccontextmanager
    async def upstream(self) -> AsyncIterator[Upstream]:
        client = Upstream(
            name="session_service",
            target=f"127.0.0.1:{self.port}",
            service_token=TOKEN,
            tracing=Tracing(service="test", version="0", sample_ratio=0.0),
            metrics=Metrics(service="test"),
            attempts=1,
        )
        yield client
        await client.close()

    async def send(self, *items: Item[Any]) -> list[Any]:
        """One batch through the carrier, as the gateway would send it."""
        async with self.upstream() as upstream:
            return await upstream.call_many(
                items[0].call.method, [(item.request, item.call) for item in items]
            )


@asynccontextmanager
async def started(*arguments: str, **settings: str) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "session_service",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "HOMEROOM_MODE": "development",
            "HOMEROOM_BIND": "127.0.0.1:0",
            "HOMEROOM_OPS_BIND": "127.0.0.1:0",
            "HOMEROOM_SERVICE_TOKEN": TOKEN,
        }
        | settings,
    )
    try:
        yield Process(child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()  # reads what is left, so that nothing of the pipe outlives the test


def settings_of(world: World) -> dict[str, str]:
    return {
        "HOMEROOM_DATABASE_URL": world.session_dsn,
        "HOMEROOM_SUBSCRIPTION_TARGET": world.neighbours_target,
        "HOMEROOM_PROGRESS_TARGET": world.neighbours_target,
        "HOMEROOM_JANITOR_INTERVAL_SECONDS": "0.2",
    }


async def test_a_learners_way_through_the_real_process(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test(questions=2, xp=9)
    async with started(**settings_of(world)) as process:
        await process.serving()
        status, page = await process.ops("/readyz")
        assert (status, {check["name"] for check in orjson.loads(page)["checks"]}) == (
            200,
            {"database", "subscription_service"},
        )
        item = world.start(user, test, "k")
        outcomes = await process.send(
            item, item, world.start(user, test, "tab 2"), world.start(user, "", "x")
        )
        assert reasons(outcomes) == [None, None, None, Reason.INVALID_ARGUMENT]
        assert [outcome.replayed for outcome in outcomes[:3]] == [False, True, False]
        session = body(item, outcomes[0]).session.session_id
        assert body(item, outcomes[2]).session.session_id == session
        answer = world.answer(user, session, "a", "q1", "right 1")
        assert body(answer, (await process.send(answer))[0]).correct
        done = world.complete(user, session, "c")
        assert body(done, (await process.send(done))[0]).session.state == Session.COMPLETED

        async def told() -> bool:
            return await world.units(user) == (0, 1) and (await world.stats(user)).xp == 9

        await eventually(told)  # the relay needs no one to tell it
        page = (await process.ops("/metrics"))[1]
        assert re.search(r'homeroom_relay_events\{outcome="delivered"\} 2\.0', page)
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_what_the_contract_forbids_does_not_reach_the_operation(world: World) -> None:
    user, test = await world.learner(), await world.test()
    async with started(**settings_of(world)) as process:
        await process.serving()
        keyless = world.start(user, test, "")
        assert reasons(await process.send(keyless)) == [Reason.IDEMPOTENCY_KEY_MISSING]
    assert await world.sessions(user) == []


@pytest.mark.fault
@pytest.mark.parametrize("point", ["session.after_holds_placed", "session.after_commit"])
async def test_a_start_survives_the_death_of_its_process(world: World, tmp_path: Path, point: str) -> None:
    test = await world.test()
    users = [await world.learner(limit=1) for _ in range(3)]
    items = [world.start(user, test, "k") for user in users]
    settings = settings_of(world) | {"HOMEROOM_FAILPOINTS_DIR": str(tmp_path)}
    async with started(**settings) as process:
        await process.serving()
        failpoints.arm(tmp_path, point, "kill")
        assert all(isinstance(outcome, ServiceError) for outcome in await process.send(*items))
        assert await process.ended() == -signal.SIGKILL
    committed = point == "session.after_commit"
    for user in users:
        assert len(await world.sessions(user)) == int(committed)
        assert await world.units(user) == (1, 0)
    async with started(**settings) as process:
        await process.serving()
        outcomes = await process.send(*items)
    assert reasons(outcomes) == [None] * 3
    assert [outcome.replayed for outcome in outcomes] == [committed] * 3
    for user in users:
        assert len(await world.sessions(user)) == 1
        assert await world.units(user) == (1, 0)


@pytest.mark.fault
async def test_if_nobody_retries_the_janitor_gives_the_unit_back(world: World, tmp_path: Path) -> None:
    user, test = await world.learner(limit=1), await world.test()
    settings = settings_of(world) | {"HOMEROOM_FAILPOINTS_DIR": str(tmp_path)}
    async with started(**settings) as process:
        await process.serving()
        failpoints.arm(tmp_path, "session.after_holds_placed", "kill")
        await process.send(world.start(user, test, "k"))
        await process.ended()
    assert await world.units(user) == (1, 0)
    async with started(**settings, HOMEROOM_JANITOR_HOLD_AGE_SECONDS="0") as process:
        await process.serving()

        async def given_back() -> bool:
            return await world.units(user) == (0, 0)

        await eventually(given_back)
        assert reasons(await process.send(world.start(user, test, "k"))) == [Reason.REQUEST_ABORTED]
        assert reasons(await process.send(world.start(user, test, "k2"))) == [None]


async def test_a_fresh_database_is_migrated_and_then_served(empty_database: ServiceDatabase) -> None:
    targets = {
        "HOMEROOM_DATABASE_URL": empty_database.service,
        "HOMEROOM_SUBSCRIPTION_TARGET": "127.0.0.1:9",
        "HOMEROOM_PROGRESS_TARGET": "127.0.0.1:9",
    }
    async with started(**targets) as early:
        output, _ = await asyncio.wait_for(early.child.communicate(), SECONDS_MAXIMUM)
        assert early.child.returncode != 0
        assert b"migrate" in output
    async with started("migrate", HOMEROOM_MIGRATION_DATABASE_URL=empty_database.owner) as migration:
        assert await migration.ended() == 0
    async with started(**targets) as process:
        await process.serving()
        status, _ = await process.ops("/readyz")
        assert status == 200, "without its neighbours it goes on with what is under way"


async def test_what_is_missing_in_the_environment_is_named() -> None:
    async with started(HOMEROOM_JANITOR_INTERVAL_SECONDS="never") as process:
        output, _ = await asyncio.wait_for(process.child.communicate(), SECONDS_MAXIMUM)
        assert process.child.returncode == 78
        for name in (
            b"DATABASE_URL",
            b"SUBSCRIPTION_TARGET",
            b"PROGRESS_TARGET",
            b"JANITOR_INTERVAL_SECONDS",
        ):
            assert b"HOMEROOM_" + name in output
