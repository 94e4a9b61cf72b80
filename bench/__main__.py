"""`python -m bench starts`: how fast sessions start, in Homeroom and in the alternatives to it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from bench.actions import print_actions, run_actions
from bench.load.requests import RequestFile, make_request_file
from bench.load.wrk import require_wrk
from bench.measure.profiles import Profile
from bench.overload.run import PARTS, print_overload, run_overload
from bench.overload.run import Order as OverloadOrder
from bench.progress import Progress
from bench.report import print_profiles, print_report
from bench.results import Results, Settings, store
from bench.scale.checks import CheckCost, measure_checks
from bench.scale.server import kept_store, telling
from bench.scale.session_population import SESSIONS_PER_LEARNER, SessionPopulation
from bench.scale.session_population import build as build_sessions
from bench.starts import Order, run_starts
from bench.systems.choice import SYSTEMS
from chassis.postgres import Connection, Database
from homeroom.services import STORES

CACHE = Path(".homeroom/bench-cache")
DATA = Path(".homeroom/bench-data")
RESULTS = Path(__file__).with_name("results")
REPORT_WIDTH = 140  # for a file or a pipe
CONNECTIONS_MAX = 400  # pgbench opens a backend for each

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console() if Console().is_terminal else Console(width=REPORT_WIDTH)


@app.callback()
def bench() -> None:
    """Measure Homeroom against its peers."""


@app.command()
def starts(
    *,
    connections: Annotated[str, typer.Option(help="Numbers of connections, comma-separated.")] = "1,64,256",
    seconds: Annotated[int, typer.Option(min=1, max=600, help="Length of one run.")] = 8,
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Runs of each; the medians are compared.")] = 3,
    only: Annotated[str, typer.Option(help="Systems, comma-separated.")] = ",".join(SYSTEMS),
    requests: Annotated[
        int, typer.Option(min=1000, max=10_000_000, help="Learners, tokens and keys to play in a run.")
    ] = 100_000,
    profile: Annotated[
        bool, typer.Option("--profile", help="Profile each of our processes afterwards.")
    ] = False,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Write bench/results/*.json.")] = True,
) -> None:
    """Start sessions as fast as each system can, in turns; exit with 1 if a run was invalid."""
    try:
        settings = Settings(
            connections=parse_connections(connections), seconds=seconds, repeat=repeat, requests=requests
        )
        order = Order(systems=parse_systems(only), settings=settings, profile=profile)
        require_wrk()
    except (RuntimeError, ValueError) as error:
        raise _give_up(str(error)) from error
    try:
        results, profiles = _run(order)
    except (RuntimeError, ValueError, OSError) as error:
        raise _give_up(f"{error}\nlogs of what ran: {DATA}, until the next bench") from error
    print_report(console, results)
    print_profiles(console, profiles)
    if save:
        _save(results, profiles)
    if results.invalid:
        raise typer.Exit(1)


@app.command()
def actions(
    *,
    connections: Annotated[str, typer.Option(help="Numbers of connections, comma-separated.")] = "64",
    seconds: Annotated[int, typer.Option(min=1, max=20, help="Length of one run.")] = 5,
    repeat: Annotated[int, typer.Option(min=1, max=4, help="Runs of each; the medians are compared.")] = 3,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Write bench/results/*.json.")] = True,
) -> None:
    """Answer, send heartbeats, read, and complete lessons as fast as Homeroom can; exit with 1 if invalid."""
    try:
        settings = Settings(
            connections=parse_connections(connections), seconds=seconds, repeat=repeat, requests=100_000
        )
        require_wrk()
        file = _sign_requests(settings.requests)
        with Progress(console) as progress:
            results = asyncio.run(
                run_actions(settings, file, cache=CACHE.resolve(), data=DATA.resolve(), progress=progress)
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise _give_up(f"{error}\nlogs of what ran: {DATA}, until the next bench") from error
    print_actions(console, results)
    if save:
        console.print(f"written to {store(results, RESULTS, kind='actions')}")
    if results.invalid:
        raise typer.Exit(1)


@app.command()
def overload(
    *,
    only: Annotated[str, typer.Option(help="Parts, comma-separated.")] = ",".join(PARTS),
    seconds: Annotated[int, typer.Option(min=5, max=300, help="Length of a failure, or of a load.")] = 20,
    service: Annotated[str, typer.Option(help="The service that is killed.")] = "progress_service",
    load: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="The share of the capacity meanwhile.")
    ] = 0.75,
    times: Annotated[float, typer.Option(min=1.0, max=10.0, help="What is offered, of the capacity.")] = 3.0,
    connections: Annotated[int, typer.Option(min=10, max=100_000, help="Slow connections.")] = 10_000,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Write bench/results/*.json.")] = True,
) -> None:
    """A service is down; three times the capacity; thousands of slow connections. Exit with 1 if invalid."""
    try:
        order = OverloadOrder(
            parts=parse_parts(only),
            seconds=seconds,
            service=parse_service(service),
            load=load,
            connections=connections,
            times=times,
        )
        with Progress(console) as progress:
            results = asyncio.run(
                run_overload(order, cache=CACHE.resolve(), data=DATA.resolve(), progress=progress)
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise _give_up(f"{error}\nlogs of what ran: {DATA}, until the next bench") from error
    print_overload(console, results)
    if save:
        console.print(f"written to {store(results, RESULTS, kind='overload')}")
    if results.invalid:
        raise typer.Exit(1)


@app.command()
def store_sessions(
    *,
    data: Annotated[Path, typer.Option(help="The folder of the store and its PostgreSQL.")],
    sessions: Annotated[int, typer.Option(min=SESSIONS_PER_LEARNER)] = 1_000_000,
    answers: Annotated[int, typer.Option(min=2, max=100, help="Answers per session.")] = 10,
    live: Annotated[bool, typer.Option("--live/--ended", help="Some sessions are under way.")] = True,
    serve: Annotated[bool, typer.Option("--serve", help="Keep PostgreSQL running until Ctrl-C.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the store in the folder afterwards.")] = False,
) -> None:
    """Build a large store of session_service; one that was kept in the folder is used again."""
    population = SessionPopulation(sessions, answers, live)
    try:
        asyncio.run(_store_sessions(population, data, serve=serve, keep=keep))
    except (RuntimeError, OSError) as error:
        raise _give_up(str(error)) from error


@app.command()
def check_sessions(
    *,
    data: Annotated[Path, typer.Option(help="The folder of the store and its PostgreSQL.")],
    sessions: Annotated[int, typer.Option(min=SESSIONS_PER_LEARNER)] = 1_000_000,
    answers: Annotated[int, typer.Option(min=2, max=100, help="Answers per session.")] = 10,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the store in the folder afterwards.")] = False,
) -> None:
    """Run the checks of session_service on a large store without a fault; exit 1 if they find one."""
    population = SessionPopulation(sessions, answers, live=False)
    try:
        costs = asyncio.run(_check_sessions(population, data, keep=keep))
    except (RuntimeError, OSError) as error:
        raise _give_up(str(error)) from error
    table = Table("check", "rows", "seconds", "rows/s", "memory", "findings", box=None, pad_edge=False)
    for each in costs:
        rate = f"{each.walked / each.seconds:,.0f}" if each.seconds else ""
        memory = f"+{each.memory_mib:.0f} MiB"
        told = each.problem or str(each.findings)
        table.add_row(each.check, f"{each.walked:,}", f"{each.seconds:.1f}", rate, memory, escape(told))
    console.print(table)
    if any(each.findings or each.problem for each in costs):
        raise typer.Exit(1)


async def _check_sessions(population: SessionPopulation, data: Path, *, keep: bool) -> list[CheckCost]:
    async def fill(connection: Connection) -> None:
        tell = telling(console.print, "sessions", population.total)
        await build_sessions(connection, population, told=tell)

    kept = kept_store("session", fill, signature=population.signature, data=data, keep=keep)
    async with kept as addresses:
        database = await Database.connect(addresses.service, maximum=2)
        try:
            return await measure_checks(database)
        finally:
            await database.close()


async def _store_sessions(population: SessionPopulation, data: Path, *, serve: bool, keep: bool) -> None:
    async def fill(connection: Connection) -> None:
        tell = telling(console.print, "sessions", population.total)
        await build_sessions(connection, population, told=tell)

    kept = kept_store("session", fill, signature=population.signature, data=data, keep=keep)
    async with kept as database:
        for role, address in asdict(database).items():
            console.print(f"{role}: {address}", markup=False, highlight=False, soft_wrap=True)
        if serve:
            await asyncio.Event().wait()


def _run(order: Order) -> tuple[Results, dict[str, Profile]]:
    file = _sign_requests(order.settings.requests)
    with Progress(console) as progress:
        measuring = run_starts(order, file, cache=CACHE.resolve(), data=DATA.resolve(), progress=progress)
        return asyncio.run(measuring)


def _give_up(why: str) -> typer.Exit:
    console.print(f"[red]{escape(why)}[/red]")
    return typer.Exit(2)


def parse_connections(text: str) -> list[int]:
    """Different positive numbers in the given order; raises ValueError that says what is wrong."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--connections {text}: numbers, separated by commas") from error
    if any(not 1 <= number <= CONNECTIONS_MAX for number in numbers) or len(set(numbers)) < len(numbers):
        raise ValueError(f"--connections {text}: different numbers from 1 to {CONNECTIONS_MAX}")
    return numbers


def parse_systems(text: str) -> list[str]:
    """Known systems, each once, in the order of the bench; raises ValueError that names the others."""
    names = {part.strip() for part in text.split(",")}
    unknown = names - set(SYSTEMS)
    if unknown:
        raise ValueError(f"--only: no system {', '.join(sorted(unknown))}; there are {', '.join(SYSTEMS)}")
    return [name for name in SYSTEMS if name in names]


def parse_parts(text: str) -> list[str]:
    """Known parts of the bench of overload, in its order; raises ValueError that names the others."""
    names = {part.strip() for part in text.split(",")}
    unknown = names - set(PARTS)
    if unknown:
        raise ValueError(f"--only: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def parse_service(text: str) -> str:
    """A service with a database; raises ValueError that names them."""
    names = [service.package for service in STORES.values()]
    if text not in names:
        raise ValueError(f"--service {text}: one of {', '.join(names)}")
    return text


def _sign_requests(count: int) -> RequestFile:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("signing tokens (kept for the next time)", total=count)
        return make_request_file(CACHE.resolve(), count, lambda more: bar.advance(task, more))


def _save(results: Results, profiles: dict[str, Profile]) -> None:
    path = store(results, RESULTS)
    console.print(f"written to {path}")
    if profiles:
        folder = path.with_suffix("").with_name(f"{path.stem}-profile")
        folder.mkdir()
        for name, profile in profiles.items():
            (folder / f"{name}.folded").write_text(profile.folded)
        with (folder / "top.txt").open("w") as file:
            print_profiles(Console(file=file, width=200), profiles)
        console.print(f"profiles in {folder} (top.txt; *.folded for flame graphs)")


if __name__ == "__main__":
    app(prog_name="python -m bench")
