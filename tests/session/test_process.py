"""`python -m session_service` as a process: migrate, serve through the carrier, die, and end in order."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from chassis import failpoints
from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from homeroom.embedded.provisioning import ServiceDatabase
from tests.diagnostics.session_faults import alarms
from tests.session.world import Session, World, body, reasons
from tests.support.service_process import ServiceProcess, serving, started
from tests.support.waiting import eventually

SERVICE = "session_service"


def settings_of(world: World) -> dict[str, str]:
    return {
        "HOMEROOM_DATABASE_URL": world.session_dsn,
        "HOMEROOM_SUBSCRIPTION_TARGET": world.neighbours_target,
        "HOMEROOM_PROGRESS_TARGET": world.neighbours_target,
        "HOMEROOM_JANITOR_INTERVAL_SECONDS": "0.2",
    }


@pytest.fixture(scope="module", autouse=True)
async def _nothing_is_wrong_afterwards(world: World) -> AsyncIterator[None]:
    yield
    await world.truth.execute("UPDATE outbox SET leased_until = NULL")  # by a relay that was killed
    await world.deliver()
    assert not await alarms(world)


async def send(process: ServiceProcess, *items: Item[Any]) -> list[Any]:
    """One batch through the carrier, as the gateway would send it."""
    async with process.upstream(attempts=1) as upstream:
        return await upstream.call_many(
            items[0].context.method, [(item.request, item.context) for item in items]
        )


async def killed_by(process: ServiceProcess, *items: Item[Any]) -> int:
    """Send until the process has died of an armed failpoint, however busy the machine is; its exit code."""
    while process.child.returncode is None:
        outcomes = await send(process, *items)
        assert all(isinstance(outcome, ServiceError) for outcome in outcomes), outcomes
        assert all(outcome.reason.retryable for outcome in outcomes), outcomes
    return await process.ended()


async def test_a_learners_way_through_the_real_process(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test(questions=2, xp=9)
    async with serving(SERVICE, **settings_of(world)) as process:
        status, page = await process.page("/readyz")
        assert (status, {check["name"] for check in orjson.loads(page)["checks"]}) == (
            200,
            {"database", "subscription_service"},
        )
        item = world.start(user, test, "k")
        outcomes = await send(
            process, item, item, world.start(user, test, "tab 2"), world.start(user, "", "x")
        )
        assert reasons(outcomes) == [None, None, None, Reason.INVALID_ARGUMENT]
        assert [outcome.replayed for outcome in outcomes[:3]] == [False, True, False]
        session = body(item, outcomes[0]).session.session_id
        assert body(item, outcomes[2]).session.session_id == session
        answer = world.answer(user, session, "a", "q1", "right 1")
        assert body(answer, (await send(process, answer))[0]).correct
        done = world.complete(user, session, "c")
        assert body(done, (await send(process, done))[0]).session.state == Session.COMPLETED

        async def told() -> bool:
            return await world.units(user) == (0, 1) and (await world.stats(user)).xp == 9

        async def counted() -> bool:
            page = (await process.page("/metrics"))[1]
            return re.search(r'homeroom_relay_events\{outcome="delivered"\} 2\.0', page) is not None

        await eventually(told)  # the relay needs no one to tell it
        await eventually(counted)  # it counts what was acknowledged, which is after it has taken effect
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_what_the_contract_forbids_does_not_reach_the_operation(world: World) -> None:
    user, test = await world.learner(), await world.test()
    async with serving(SERVICE, **settings_of(world)) as process:
        keyless = world.start(user, test, "")
        assert reasons(await send(process, keyless)) == [Reason.IDEMPOTENCY_KEY_MISSING]
    assert await world.sessions(user) == []


@pytest.mark.fault
@pytest.mark.parametrize("point", ["session.after_holds_placed", "session.after_commit"])
async def test_a_start_survives_the_death_of_its_process(world: World, tmp_path: Path, point: str) -> None:
    test = await world.test()
    users = [await world.learner(limit=1) for _ in range(3)]
    items = [world.start(user, test, "k") for user in users]
    settings = settings_of(world) | {"HOMEROOM_FAILPOINTS_DIR": str(tmp_path)}
    async with serving(SERVICE, **settings) as process:
        failpoints.arm(tmp_path, point, "kill")
        assert await killed_by(process, *items) == -signal.SIGKILL
    committed = point == "session.after_commit"
    for user in users:
        assert len(await world.sessions(user)) == int(committed)
        assert await world.units(user) == (1, 0)
    async with serving(SERVICE, **settings) as process:
        outcomes = await send(process, *items)
    assert reasons(outcomes) == [None] * 3
    assert [outcome.replayed for outcome in outcomes] == [committed] * 3
    for user in users:
        assert len(await world.sessions(user)) == 1
        assert await world.units(user) == (1, 0)


@pytest.mark.fault
async def test_if_nobody_retries_the_janitor_gives_the_unit_back(world: World, tmp_path: Path) -> None:
    user, test = await world.learner(limit=1), await world.test()
    settings = settings_of(world) | {"HOMEROOM_FAILPOINTS_DIR": str(tmp_path)}
    async with serving(SERVICE, **settings) as process:
        failpoints.arm(tmp_path, "session.after_holds_placed", "kill")
        assert await killed_by(process, world.start(user, test, "k")) == -signal.SIGKILL
    assert await world.units(user) == (1, 0)
    async with serving(SERVICE, **settings, HOMEROOM_JANITOR_HOLD_AGE_SECONDS="0") as process:

        async def given_back() -> bool:
            return await world.units(user) == (0, 0)

        await eventually(given_back)
        assert reasons(await send(process, world.start(user, test, "k"))) == [Reason.REQUEST_ABORTED]
        # A hold is an orphan at once here, so the janitor may overtake this start as well.
        keys = itertools.count(2)
        while (told := reasons(await send(process, world.start(user, test, f"k{next(keys)}")))) != [None]:
            assert told == [Reason.REQUEST_ABORTED]


async def test_a_fresh_database_is_migrated_and_then_served(empty_database: ServiceDatabase) -> None:
    targets = {
        "HOMEROOM_DATABASE_URL": empty_database.service,
        "HOMEROOM_SUBSCRIPTION_TARGET": "127.0.0.1:9",
        "HOMEROOM_PROGRESS_TARGET": "127.0.0.1:9",
    }
    async with started(SERVICE, **targets) as process:
        assert await process.ended() != 0
        assert "migrate" in process.log
    async with started(SERVICE, "migrate", HOMEROOM_MIGRATION_DATABASE_URL=empty_database.owner) as migration:
        assert await migration.ended() == 0
    async with serving(SERVICE, **targets) as process:
        status, _ = await process.page("/readyz")
        assert status == 200, "without its neighbours it goes on with what is under way"


async def test_what_is_missing_in_the_environment_is_named() -> None:
    async with started(SERVICE, HOMEROOM_JANITOR_INTERVAL_SECONDS="never") as process:
        assert await process.ended() == 78
        for name in ("DATABASE_URL", "SUBSCRIPTION_TARGET", "PROGRESS_TARGET", "JANITOR_INTERVAL_SECONDS"):
            assert "HOMEROOM_" + name in process.log
