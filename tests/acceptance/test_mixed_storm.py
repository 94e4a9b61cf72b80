"""Every process dies, stops and freezes under a load of everything; each day adds up, no alarm is false."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from homeroom.findings import Finding
from homeroom.services import SERVICES
from homeroom.supervisor import Stack
from tests.acceptance.adding_up import assert_adds_up
from tests.support.diagnosing import diagnose, diagnosing
from tests.support.freezing import freeze
from tests.support.http_client import HttpClient
from tests.support.mixed_load import MixedLoad
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


def key_of(finding: Finding) -> tuple[object, ...]:
    return finding["check"], finding["userId"], tuple(sorted(finding["row"].items()))


async def storm(stack: Stack, http: HttpClient, order: list[str]) -> None:
    before = {key_of(finding) for finding in (await diagnose(stack)).findings}
    async with diagnosing(stack) as seen:
        load = await disturb(stack, http, order)
    assert [finding for finding in seen.findings if key_of(finding) not in before] == []
    await assert_adds_up(stack, http, load)


async def disturb(stack: Stack, http: HttpClient, order: list[str]) -> MixedLoad:
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
    return load


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
