"""`python -m bench.replay DIR`: plays a practice log through a stack and compares log and server."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from bench.replay.errors import ReplayError
from bench.replay.killer import Killer, schedule
from bench.replay.log import PracticeLog, read_log
from bench.replay.passes import joined, log_of_pass
from bench.replay.report import Outcome, Storm, as_json, show
from bench.replay.run import TOKEN_SECONDS, Disturb, Order, replay
from homeroom.commands.options import running
from homeroom.data_directory import DataDirectory
from homeroom.keys import DevelopmentKeys
from homeroom.supervisor import Stack

EXIT_DIFFERENCES = 1
EXIT_FAILED = 2


class Sign(Protocol):
    """Makes a bearer token for a user."""

    def __call__(self, user: str, roles: Iterable[str], *, ttl_seconds: int) -> str: ...


class RateColumn(ProgressColumn):
    """How many were done per second, recently."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


def main(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds answers.csv.gz and questions.jsonl.")],
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The data folder of a running stack. Without it, one is started, and deleted at the end."
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="The gateway of the stack of --data, if elsewhere.")] = None,
    learners: Annotated[int | None, typer.Option(min=1, help="Play only so many learners.")] = None,
    at_once: Annotated[int, typer.Option(min=1, max=1000, help="Learners who play at a time.")] = 64,
    twice: Annotated[bool, typer.Option("--twice", help="Play again with the same keys.")] = False,
    kills: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            help="Kill processes of a stack of our own at random so often. The log is played again, with new "
            "learners, until all kills have happened.",
        ),
    ] = 0,
    upload: Annotated[
        bool, typer.Option("--upload", help="Send answers and completions through the batch upload.")
    ] = False,
    shuffle: Annotated[
        bool,
        typer.Option(
            "--shuffle",
            help="Send the answers of each session in random order, and each operation one to three times.",
        ),
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="Of the kills and of the order; a random one is chosen and told.")
    ] = None,
    as_json_text: Annotated[bool, typer.Option("--json", help="Write the result as JSON.")] = False,
) -> None:
    """Play a practice log through a stack's gateway, and compare the result with the log.

    Exits with 1 if they differ in anything, with 2 if they could not be compared. With --kills it also exits
    with 1 if an answer was anything but 2xx, 503, 504 or 409 REQUEST_ABORTED.
    """
    terminal = Console(stderr=as_json_text, highlight=False)
    try:
        log = read_log(folder)
        log = log if learners is None else log.first(learners)
        seed = random.randrange(2**32) if seed is None else seed
        if shuffle:
            terminal.print(f"each operation one to three times, in random order (seed {seed})")
            log = log.shuffled(seed)
        order = Order(
            log, at_once=at_once, twice=twice, shuffle_seed=seed if shuffle else None, upload=upload
        )
        if kills:
            _refuse_impossible_storm(order.log, data, url)
            outcome = asyncio.run(_run_in_storm(order, kills=kills, seed=seed, terminal=terminal))
        else:
            outcome = asyncio.run(_run(order, data=data, url=url, terminal=terminal))
    except (ReplayError, RuntimeError) as error:  # a stack that cannot start raises RuntimeError
        terminal.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from error
    if as_json_text:
        typer.echo(json.dumps(as_json(outcome), indent=2, default=str))
    else:
        show(terminal, outcome)
    if not outcome.sound:
        raise typer.Exit(EXIT_DIFFERENCES)


def _refuse_impossible_storm(log: PracticeLog, data: Path | None, url: str | None) -> None:
    if data is not None or url is not None:
        raise ReplayError(
            "--kills kills processes, so it starts a stack of its own: leave out --data and --url"
        )
    if not log.answer_count:
        raise ReplayError("the log has no answers, so there is no time for a kill")


async def _run_in_storm(order: Order, *, kills: int, seed: int, terminal: Console) -> Outcome:
    terminal.print(f"starting a stack of our own, to kill its processes {kills} times (seed {seed})")
    async with Stack(ephemeral=True) as stack:
        killer = Killer(stack, schedule(seed, kills), say=lambda line: terminal.print(f"[dim]{line}[/]"))
        outcomes: list[Outcome] = []
        while not (outcomes and killer.done):
            of_pass = replace(order, log=log_of_pass(order.log, len(outcomes) + 1))
            outcomes.append(
                await _replay(of_pass, stack.gateway_url, stack.token, terminal, disturb=killer.at_work)
            )
        storm = Storm(seed, dict(killer.killed), await stack.internal_errors())
        return replace(joined(outcomes), storm=storm)


async def _run(order: Order, *, data: Path | None, url: str | None, terminal: Console) -> Outcome:
    if data is not None:
        return await _replay_on_running_stack(order, DataDirectory(data), url, terminal)
    if url is not None:
        raise ReplayError("--url needs --data: the learners' tokens are signed with the keys in that folder")
    terminal.print("starting a stack of our own")
    async with Stack(ephemeral=True) as stack:
        outcome = await _replay(order, stack.gateway_url, stack.token, terminal)
        errors = {name: count for name, count in (await stack.internal_errors()).items() if count}
        if errors:
            raise ReplayError(f"processes have answered with a 500, which is a bug: {errors}")
        return outcome


async def _replay_on_running_stack(
    order: Order, data: DataDirectory, url: str | None, terminal: Console
) -> Outcome:
    found = running(data)
    if url is None and (found is None or not found.ready):
        raise ReplayError(
            f"no stack is ready on {data.root}: start one with `homeroom up`, or give its --url"
        )
    gateway_url = url or (found.gateway_url if found is not None else "")
    return await _replay(order, gateway_url, DevelopmentKeys(data.keys).token, terminal)


async def _replay(
    order: Order, gateway_url: str, sign: Sign, terminal: Console, *, disturb: Disturb = nullcontext
) -> Outcome:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal) as progress:
        return await replay(
            order,
            gateway_url=gateway_url,
            make_token=lambda user, roles: sign(user, roles, ttl_seconds=TOKEN_SECONDS),
            progress=progress,
            disturb=disturb,
        )


if __name__ == "__main__":
    typer.run(main)
