"""The bench of starts: every system on the same machine and PostgreSQL, taking turns."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load.conformance import LEARNERS as PROBES
from bench.load.conformance import check_conformance
from bench.load.identity import AUDIENCE, ISSUER, Identity
from bench.load.requests import RequestFile, learners
from bench.machine import describe_machine
from bench.measure.processes import read_memory
from bench.measure.profiles import Profile, record_profiles
from bench.measured_run import Meter
from bench.progress import Progress
from bench.results import GOAL_CONNECTIONS, SUBJECT, Results, Run, Settings, goals_of, medians_of, ratios_of
from bench.systems.choice import Ground, make_systems
from bench.systems.system import DatabaseAddress, System
from homeroom.data_directory import DataDirectory
from homeroom.embedded.postgres import SETTINGS, Cluster
from homeroom.supervisor import Stack

WARM_UP_SECONDS = 2
POSTGRES_CONNECTIONS_MAX = 500
"""Room for pgbench with 256 clients beside everyone's pools."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be measured."""

    systems: Sequence[str]
    settings: Settings
    profile: bool


@dataclass(frozen=True, slots=True)
class Server:
    """The bench's one PostgreSQL, and the stack that started it, if there is one."""

    address: DatabaseAddress
    postmaster: int
    stack: Stack | None


async def run_starts(
    order: Order, requests: RequestFile, *, cache: Path, data: Path, progress: Progress
) -> tuple[Results, dict[str, Profile]]:
    """Measures the systems in turns, and profiles Homeroom afterwards if asked to."""
    identity = Identity.load(cache)
    everyone = [*learners(requests.count), *PROBES]
    async with AsyncExitStack() as stack:
        progress.say("starting PostgreSQL" + (" and Homeroom" if SUBJECT in order.systems else ""))
        server = await stack.enter_async_context(_server(data, identity, SUBJECT in order.systems))
        ground = Ground(server.address, data / "peers", identity, everyone, server.stack)
        systems = make_systems(order.systems, ground)
        for system in systems:
            progress.say(f"{system.title}: starting, {len(everyone)} accounts")
            stack.push_async_callback(system.stop)
            await system.start()
        meter = Meter(
            systems=systems,
            requests=requests,
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


@asynccontextmanager
async def _server(data: Path, identity: Identity, with_stack: bool) -> AsyncIterator[Server]:
    """A fresh PostgreSQL with the settings of `homeroom up`, on the disk of the checkout; gone afterwards."""
    _clear(data)
    settings = {**SETTINGS, "max_connections": str(POSTGRES_CONNECTIONS_MAX)}
    if with_stack:
        additions = {
            "HOMEROOM_JWKS": str(identity.jwks),
            "HOMEROOM_JWT_ISSUER": ISSUER,
            "HOMEROOM_JWT_AUDIENCE": AUDIENCE,
        }
        async with Stack(data / "stack", env=additions, postgres_settings=settings) as stack:
            yield Server(stack.dsn, _postmaster(stack.pid("postgres")), stack)
            _refuse_internal_errors(await stack.internal_errors())
    else:
        async with _cluster(DataDirectory(data / "stack"), settings) as cluster:
            yield Server(cluster.dsn, _postmaster(cluster.pid), None)
    shutil.rmtree(data)


@asynccontextmanager
async def _cluster(directory: DataDirectory, settings: Mapping[str, str]) -> AsyncIterator[Cluster]:
    """The PostgreSQL that a stack would start, for a bench of peers alone."""
    with directory.held():
        cluster = Cluster(
            directory.postgres,
            password=directory.secrets().get("postgres"),
            run=directory.run,
            log=directory.log("postgres"),
            settings=settings,
        )
        await cluster.start()
        try:
            yield cluster
        finally:
            await cluster.stop()


def _refuse_internal_errors(errors: Mapping[str, int]) -> None:
    if any(errors.values()):
        raise RuntimeError(f"processes have answered with a 500, which is a bug: {dict(errors)}")


def _postmaster(pid: int | None) -> int:
    if pid is None:
        raise RuntimeError("PostgreSQL died as soon as it had started")
    return pid


def _clear(data: Path) -> None:
    """Removes what an earlier bench left; raises AlreadyRunningError while another one runs."""
    if data.exists():
        with DataDirectory(data / "stack").held():
            shutil.rmtree(data)
    (data / "peers").mkdir(parents=True)
