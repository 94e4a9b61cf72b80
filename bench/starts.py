"""The bench of starts: every system on the same machine and PostgreSQL, taking turns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.load.conformance import LEARNERS as PROBES
from bench.load.conformance import check_conformance
from bench.load.identity import Identity
from bench.load.requests import RequestFile, learners
from bench.machine import describe_machine
from bench.measure.processes import read_memory
from bench.measure.profiles import Profile, record_profiles
from bench.measured_run import Meter
from bench.progress import Progress
from bench.results import GOAL_CONNECTIONS, SUBJECT, Results, Run, Settings, goals_of, medians_of, ratios_of
from bench.server import running_server
from bench.systems.choice import Ground, make_systems
from bench.systems.system import System

WARM_UP_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be measured."""

    systems: Sequence[str]
    settings: Settings
    profile: bool


async def run_starts(
    order: Order, requests: RequestFile, *, cache: Path, data: Path, progress: Progress
) -> tuple[Results, dict[str, Profile]]:
    """Measures the systems in turns, and profiles Homeroom afterwards if asked to."""
    identity = Identity.load(cache)
    everyone = [*learners(requests.count), *PROBES]
    async with AsyncExitStack() as stack:
        progress.say("starting PostgreSQL" + (" and Homeroom" if SUBJECT in order.systems else ""))
        server = await stack.enter_async_context(
            running_server(data, identity, with_stack=SUBJECT in order.systems)
        )
        ground = Ground(server.address, data / "peers", identity, everyone, server.stack)
        systems = make_systems(order.systems, ground)
        for system in systems:
            progress.say(f"{system.title}: starting, {len(everyone)} accounts")
            stack.push_async_callback(system.stop)
            await system.start()
        meter = Meter(
            systems=systems,
            requests={system.name: requests for system in systems},
            postmaster=server.postmaster,
            admin_dsn=server.address("postgres"),
        )
        await _prepare(systems, meter, identity, progress)
        runs = await _measure(order, systems, meter, progress)
        memory = read_memory(meter.roots())
        profiles = await _profile(order, systems, meter, progress) if order.profile else {}
        medians = medians_of(runs)
        ratios = ratios_of(medians)
        return Results(
            taken_at=dt.datetime.now(dt.UTC),
            machine=await describe_machine(server.address("postgres")),
            settings=order.settings,
            titles={system.name: system.title for system in systems},
            medians=medians,
            ratios=ratios,
            goals=goals_of(medians, ratios),
            memory=memory,
            runs=runs,
        ), profiles


def turns(order: Order) -> Iterator[tuple[int, int, str]]:
    """Repeat, connections, system; each repeat begins with another system, so that drift hits all equally."""
    names = list(order.systems)
    for repeat in range(order.settings.repeat):
        shift = repeat % len(names)
        for connections in order.settings.connections:
            for name in names[shift:] + names[:shift]:
                yield repeat + 1, connections, name


async def _prepare(systems: Sequence[System], meter: Meter, identity: Identity, progress: Progress) -> None:
    for system in systems:
        await system.reset()
        if system.url is not None:
            progress.say(f"{system.title}: does it keep its promises?")
            await check_conformance(system.url, identity)
            await system.reset()
        progress.say(f"{system.title}: warming up")
        await meter.load(system, connections=GOAL_CONNECTIONS, seconds=WARM_UP_SECONDS)
        await system.reset()


async def _measure(order: Order, systems: Sequence[System], meter: Meter, progress: Progress) -> list[Run]:
    by_name = {system.name: system for system in systems}
    plan = list(turns(order))
    runs: list[Run] = []
    for number, (repeat, connections, name) in enumerate(plan, 1):
        progress.say(f"run {number} of {len(plan)}: {by_name[name].title}, {connections} connections")
        run = await meter.run(
            by_name[name], connections=connections, seconds=order.settings.seconds, repeat=repeat
        )
        progress.ran(run)
        runs.append(run)
    return runs


async def _profile(
    order: Order, systems: Sequence[System], meter: Meter, progress: Progress
) -> dict[str, Profile]:
    subject = next((system for system in systems if system.name == SUBJECT), None)
    if subject is None:
        return {}
    progress.say(f"{subject.title}: profiling at {GOAL_CONNECTIONS} connections")
    await subject.reset()
    seconds = order.settings.seconds
    async with record_profiles(subject.processes(), seconds=seconds) as profiles:
        await meter.load(subject, connections=GOAL_CONNECTIONS, seconds=seconds + 1)
    await subject.reset()
    return profiles
