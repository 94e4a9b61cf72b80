"""The bench of actions: what learners do all day, on one stack, beside a bare aiohttp handler."""

from __future__ import annotations

import datetime as dt
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.load.actions import ACTORS, Action, actions_of, actor_id, make_action_file
from bench.load.identity import Identity
from bench.load.requests import RequestFile, learners
from bench.machine import Machine, describe_machine
from bench.measured_run import Meter
from bench.progress import Progress
from bench.results import GOAL_CONNECTIONS, Goal, Medians, Run, Settings, medians_of
from bench.server import running_server
from bench.systems.actions import BARE, BareAiohttp, LearnerAction, furnish
from bench.systems.system import System
from homeroom.supervisor import Stack

STARTS = "starts"
WARM_UP_SECONDS = 1
WARM_UP_REQUESTS_MAX = 10_000
GOALS = (
    ("answers", STARTS, 1.5),
    ("heartbeats", STARTS, 1.5),
    ("completions", STARTS, 1.0),
    ("access", BARE, 0.35),
)
"""An action, what it is compared with, and how many times its rate is to be reached at 64 connections."""
OVERHEAD_MAX = 2.5
"""To be reached: the gateway's CPU for a safe call, in that of a bare handler."""


class ActionResults(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of a bench of actions, their medians, and the goals that they decide."""

    taken_at: dt.datetime
    machine: Machine
    settings: Settings
    titles: Mapping[str, str]
    medians: Sequence[Medians]
    goals: Sequence[Goal]
    runs: Sequence[Run]

    @property
    def invalid(self) -> list[Run]:
        return [run for run in self.runs if run.problems]


async def run_actions(
    settings: Settings, starts: RequestFile, *, cache: Path, data: Path, progress: Progress
) -> ActionResults:
    """Measure all actions in turns; `starts` are the requests of learners who start a session."""
    identity = Identity.load(cache)
    async with AsyncExitStack() as closing:
        progress.say("starting PostgreSQL and Homeroom")
        server = await closing.enter_async_context(running_server(data, identity, with_stack=True))
        if server.stack is None:
            raise RuntimeError("the bench of actions needs a stack")
        progress.say(f"{starts.count + ACTORS} accounts")
        actors = [actor_id(index) for index in range(ACTORS)]
        session_id = await furnish(
            server.stack, identity, learners=list(learners(starts.count)), actors=actors
        )
        progress.say("signing tokens and writing requests")
        tokens = [identity.token(actor, "learner") for actor in actors]
        bare = BareAiohttp(data / "peers")
        closing.push_async_callback(bare.stop)
        await bare.start()
        actions = actions_of(session_id)
        requests = {each.name: make_action_file(each, identity, tokens, data / "peers") for each in actions}
        systems = [*_systems(server.stack, actions), bare]
        meter = Meter(
            systems=systems,
            requests={**requests, STARTS: starts, BARE: requests["access"]},
            postmaster=server.postmaster,
            admin_dsn=server.address("postgres"),
        )
        once = {STARTS: starts.count} | {
            each.name: requests[each.name].count for each in actions if each.keyed
        }
        runs = refuse_repetitions(await _measure(settings, systems, meter, progress), once)
        medians = medians_of(runs)
        return ActionResults(
            taken_at=dt.datetime.now(dt.UTC),
            machine=await describe_machine(server.address("postgres")),
            settings=settings,
            titles={system.name: system.title for system in systems},
            medians=medians,
            goals=goals_of(medians),
            runs=runs,
        )


def _systems(stack: Stack, actions: Sequence[Action]) -> list[System]:
    return [
        LearnerAction(STARTS, "start a session", "/v1/sessions", stack),
        *(LearnerAction(action.name, action.title, "/", stack) for action in actions),
    ]


async def _measure(
    settings: Settings, systems: Sequence[System], meter: Meter, progress: Progress
) -> list[Run]:
    """Each repeat begins with another action, so that drift hits all equally."""
    for system in systems:
        await meter.load(system, connections=GOAL_CONNECTIONS, seconds=WARM_UP_SECONDS)
    runs = []
    for repeat in range(settings.repeat):
        shift = repeat % len(systems)
        for connections in settings.connections:
            for system in [*systems[shift:], *systems[:shift]]:
                progress.say(f"repeat {repeat + 1}: {system.title}, {connections} connections")
                run = await meter.run(
                    system, connections=connections, seconds=settings.seconds, repeat=repeat + 1
                )
                progress.ran(run)
                runs.append(run)
    return runs


def refuse_repetitions(runs: Sequence[Run], once: Mapping[str, int]) -> list[Run]:
    """The runs, those marked as invalid that played requests again: an answer to a known key is cheaper.

    `once` says how many requests there are, by the name of the action.
    """
    sent: Counter[str] = Counter()
    checked = []
    for run in runs:
        sent[run.system] += run.sent
        again = sent[run.system] + WARM_UP_REQUESTS_MAX > once.get(run.system, sys.maxsize)
        problems = [*run.problems, "requests were played twice: measure for a shorter time"]
        checked.append(msgspec.structs.replace(run, problems=problems) if again else run)
    return checked


def goals_of(medians: Sequence[Medians]) -> list[Goal]:
    """The goals that these figures decide."""
    points = {point.system: point for point in medians if point.connections == GOAL_CONNECTIONS}
    goals = []
    for name, against, wanted in GOALS:
        if name in points and against in points:
            ratio = points[name].rate / points[against].rate
            goals.append(
                Goal(f"{name} against {against}", f"at least {wanted} times", ratio, ratio >= wanted)
            )
    if "access" in points and BARE in points:
        overhead = points["access"].cpu_us_per_start["gateway"] / points[BARE].cpu_us
        what = "the gateway's CPU for a safe call, in bare handlers"
        goals.append(Goal(what, f"at most {OVERHEAD_MAX}", overhead, overhead <= OVERHEAD_MAX))
    return goals


def print_actions(console: Console, results: ActionResults) -> None:
    """The results as tables."""
    machine = results.machine
    console.print(
        f"\n[bold]What learners do[/bold]: {machine.cpu}, {machine.cores} cores, "
        f"PostgreSQL {machine.postgres}, Python {machine.python}, commit {machine.commit}",
        highlight=False,
    )
    table = Table(title="Medians of the good runs", title_justify="left")
    table.add_column("action")
    for heading in ("conns", "a second", "least to most", "p50 ms", "p99 ms", "CPU µs", "of it"):
        table.add_column(heading, justify="right")
    for point in sorted(results.medians, key=lambda point: point.connections):
        spent = sorted(point.cpu_us_per_start.items(), key=lambda item: -item[1])
        table.add_row(
            results.titles[point.system],
            str(point.connections),
            f"[bold]{point.rate:,.0f}[/bold]",
            f"{point.rate_min:,.0f} to {point.rate_max:,.0f}",
            f"{point.p50_ms:.2f}",
            f"{point.p99_ms:.2f}",
            f"{point.cpu_us:,.0f}",
            ", ".join(f"{name} {used:,.0f}" for name, used in spent if used >= 1),
        )
    console.print(table)
    for goal in results.goals:
        reached = "[green]reached[/green]" if goal.reached else "[red]not reached[/red]"
        console.print(f"{goal.what}: {goal.measured:.2f} ({goal.wanted}): {reached}", highlight=False)
    for run in results.invalid:
        console.print(f"[red]invalid: {run.system}, repeat {run.repeat}: {'; '.join(run.problems)}[/red]")
