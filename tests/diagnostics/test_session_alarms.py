"""The checks of session_service find nothing while learners, janitor, sweeps and relays are at work."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from chassis.diagnostics.findings import Finding
from chassis.process.background import Background
from chassis.telemetry.metrics import Metrics
from session_service.__main__ import add_jobs
from tests.diagnostics.session_faults import alarms
from tests.session.test_storm import Storm
from tests.session.world import World, new_world
from tests.support.databases import Databases

LEARNERS = 64
# The storm moves deadlines into the past, and these look at times.
SKEWED = "session.late_answer"
# Without patience they see work under way: a session that is swept in a moment, a hold of a start.
PATIENT = ("session.ghost", "session.open_hold")


@pytest.mark.parametrize("seed", [7])
async def test_no_alarm_is_raised_while_a_storm_goes_on_and_after_it(databases: Databases, seed: int) -> None:
    async with new_world(databases) as world:
        users = [await world.learner(limit=6) for _ in range(LEARNERS)]
        tests = [await world.test(questions=1) for _ in range(3)]
        storm = Storm(world, users, tests, seed)
        over = asyncio.Event()
        rounds: list[list[Finding]] = []

        async def watch() -> None:
            while not over.is_set():
                rounds.append(await alarms(world, SKEWED, *PATIENT))

        async def rage() -> None:
            try:
                await asyncio.gather(*(storm.run(12) for _ in range(6)))
            finally:
                over.set()

        background = _working(world)
        try:
            await asyncio.gather(rage(), watch())
        finally:
            await background.stop()
        assert rounds
        assert not [finding for found in rounds for finding in found]
        assert sum(storm.reasons.values()) > LEARNERS

        await world.truth.execute("UPDATE outbox SET leased_until = NULL")
        await world.parts.sweep.close_overdue()
        await world.deliver()
        await world.parts.janitor.resolve_holds()
        # A deadline may pass between the last sweep and the look at it.
        assert not await alarms(world, SKEWED, settled=timedelta(minutes=5))
        assert not await alarms(world, SKEWED, "session.ghost")


def _working(world: World) -> Background:
    """The janitor, the sweeps and the relay of a replica, at short intervals."""
    background = Background(metrics=Metrics(service="session_service"))
    add_jobs(background, world.parts, hold_interval_seconds=0.05, sweep_interval_seconds=0.05)
    for topic in world.parts.relay.topics:
        job = background.add(topic, partial(world.parts.relay.deliver_due, topic), interval_seconds=1.0)
        world.parts.relay.at_wake(job.wake)
    background.start()
    return background
