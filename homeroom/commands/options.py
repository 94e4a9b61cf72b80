"""The options that several commands have, and how they find their stack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from homeroom import state
from homeroom.data_directory import DEFAULT, DataDirectory
from homeroom.embedded.process import holder

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", envvar="HOMEROOM_DATA", help="The stack's data folder.", show_default=str(DEFAULT)
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For a machine to read.")]

console = Console(highlight=False)
complaints = Console(stderr=True, highlight=False)


def fail(message: str) -> typer.Exit:
    """Print what is wrong, and return the exception that ends the command."""
    complaints.print(f"[bold red]error:[/] {message}", soft_wrap=True)
    return typer.Exit(1)


def running(data: DataDirectory) -> state.StackState | None:
    """The stack that runs on this folder now; None if there is none."""
    if holder(data.lock("supervisor")) is None:
        return None  # a state file may have outlived its stack
    return state.read(data.state)


def running_or_fail(data: DataDirectory) -> state.StackState:
    """The stack that runs on this folder now and is ready; ends the command if there is none."""
    found = running(data)
    if found is None:
        raise fail(f"no stack runs on {data.root}: start one with `homeroom up`")
    if not found.ready:
        raise fail(f"the stack on {data.root} is still starting")
    return found
