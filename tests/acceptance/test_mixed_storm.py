"""Every process dies, is stopped and is frozen under a load of everything; each learner's day adds up."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial

import asyncpg
import pytest

from homeroom.services import SERVICES
from homeroom.supervisor import Stack
from tests.acceptance.conftest import HOLD_AGE_SECONDS
from tests.progress.diagnostics import read_discrepancies as read_progress_discrepancies
from tests.subscription.diagnostics import read_discrepancies as read_subscription_discrepancies
from tests.support.freezing import freeze
from tests.support.http_client import HttpClient
from tests.support.invariants import read_books
from tests.support.mixed_load import MixedLoad, wrong_days
from tests.support.stack_logs import logged_errors
from tests.support.waiting import eventually

POSTGRES = "postgres"
# Longer than a client of ours waits for a process that is silent (six seconds), and shorter.
FROZEN_SECONDS = (7.0, 1.5)
NIGHTLY_ROUNDS = 10

pytestmark = pytest.mark.fault

Disturbance = Callable[[], Awaitable[object]]


def disturbances(stack: Stack) -> dict[str, Disturbance]:
    """Each process by SIGKILL, SIGTERM and SIGSTOP; PostgreSQL by its own ways to stop, and frozen."""
    found: dict[str, Disturbance] = {}
    for service in SERVICES:
        name = service.package
        found[f"kill {name}"] = partial(stack.kill, name)
        found[f"terminate {name}"] = partial(stack.terminate, name)
    for number, service in enumerate(SERVICES):
        seconds = FROZEN_SECONDS[number % len(FROZEN_SECONDS)]
        found[f"freeze {service.package}"] = partial(freeze, stack, service.package, seconds)
    found["crash postgres"] = partial(stack.restart_postgres, immediately=True)
    found["restart postgres"] = stack.restart_postgres
    found["freeze postgres"] = partial(freeze, stack, POSTGRES, FROZEN_SECONDS[0])
    return found


async def storm(stack: Stack, http: HttpClient, order: list[str]) -> None:
    ways = disturbances(stack)
    load = MixedLoad(http)
    await load.begin()

    async def goes_on(before: int) -> bool:
        return load.answered >= before + 100

    for name in order:
        await eventually(partial(goes_on, load.answered), seconds=90)
        assert load.surprises == [], name
        await ways[name]()
        await stack.wait_ready()
    await eventually(partial(goes_on, load.answered), seconds=90)
    await load.end()
    assert load.surprises == [], load.statuses

    async def settled() -> bool:
        return (await read_books(stack)).settled

    await eventually(settled, seconds=HOLD_AGE_SECONDS + 40)
    assert (await read_books(stack)).wrong_counters == []
    assert await wrong_days(http, load) == []
    for database, read in (
        ("subscription", read_subscription_discrepancies),
        ("progress", read_progress_discrepancies),
    ):
        connection = await asyncpg.connect(stack.dsn(database))
        try:
            assert await read(connection) == []
        finally:
            await connection.close()
    errors = await stack.internal_errors()
    assert errors == dict.fromkeys((service.package for service in SERVICES), 0)
    assert logged_errors(stack) == {}


@pytest.mark.timeout(600)
async def test_a_learners_day_adds_up_whatever_dies_meanwhile(stack: Stack, http: HttpClient) -> None:
    await storm(stack, http, list(disturbances(stack)))


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(NIGHTLY_ROUNDS))
async def test_a_learners_day_adds_up_in_any_order_of_deaths(
    stack: Stack, http: HttpClient, seed: int
) -> None:
    order = list(disturbances(stack)) * 3
    random.Random(seed).shuffle(order)
    await storm(stack, http, order)
