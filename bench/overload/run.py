"""The bench of overload: what learners get when there is too much, or when something is down."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.load.identity import Identity
from bench.machine import describe_machine
from bench.overload import excess, failing, slow
from bench.overload.school import School
from bench.overload.section import OverloadResults, Section
from bench.progress import Progress
from bench.server import running_server

PARTS = ("failing", "excess", "slow")
POLITE_CONNECTIONS = 5_000
CONNECTIONS_MAX_DEFAULT = 10_000
WARM_UP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be measured.

    Args:
        load: the share of the capacity that is offered while a service is down.
        connections: how many slow ones.
        times: what is offered in excess, of the capacity.
    """

    parts: Sequence[str]
    seconds: int
    service: str
    load: float
    connections: int
    times: float


async def run_overload(order: Order, *, cache: Path, data: Path, progress: Progress) -> OverloadResults:
    """Measures the parts one after another, on a stack of its own.

    Raises:
        RuntimeError: it could not measure, or a process answered with a 500.
    """
    identity = Identity.load(cache)
    # So that the slow connections do not use up the places of the others, which is another limit.
    room = max(CONNECTIONS_MAX_DEFAULT, order.connections + POLITE_CONNECTIONS)
    progress.say("starting PostgreSQL and Homeroom")
    settings = {"HOMEROOM_CONNECTIONS_MAX": str(room)}
    async with running_server(data, identity, with_stack=True, env=settings) as server:
        if server.stack is None:
            raise RuntimeError("the bench of overload needs a stack")
        progress.say("accounts, sessions and tokens")
        school = await School.open(server.stack, identity, data / "peers")
        progress.say("warming up")
        await school.load(failing.MIX, seconds=WARM_UP_SECONDS)
        await school.load(excess.MIX, seconds=WARM_UP_SECONDS)
        sections = []
        for part in order.parts:
            progress.say(f"measuring: {part}")
            sections.append(await _measure(part, order, school))
            await server.stack.wait_ready()
        return OverloadResults(
            taken_at=dt.datetime.now(dt.UTC),
            machine=await describe_machine(server.address("postgres")),
            seconds=order.seconds,
            sections=sections,
        )


async def _measure(part: str, order: Order, school: School) -> Section:
    if part == "failing":
        return await failing.measure(school, order.service, seconds=order.seconds, load=order.load)
    if part == "excess":
        return await excess.measure(school, seconds=order.seconds, times=order.times)
    return await slow.measure(school, seconds=order.seconds, connections=order.connections)


def print_overload(console: Console, results: OverloadResults) -> None:
    """The results as tables."""
    machine = results.machine
    console.print(
        f"\n[bold]Too much, or something down[/bold]: {machine.cpu}, {machine.cores} cores, "
        f"PostgreSQL {machine.postgres}, Python {machine.python}, commit {machine.commit}; "
        "the generator shares the cores with the stack",
        highlight=False,
    )
    for section in results.sections:
        table = Table(title=section.title, title_justify="left", show_header=False)
        for what, told in section.facts.items():
            table.add_row(escape(what), escape(told))
        console.print(table)
        for goal in section.goals:
            reached = "[green]reached[/green]" if goal.reached else "[red]not reached[/red]"
            console.print(f"{goal.what}: {goal.measured:.2f} ({goal.wanted}): {reached}", highlight=False)
    for section in results.invalid:
        console.print(f"[red]invalid: {section.title}: {escape('; '.join(section.problems))}[/red]")
