"""`homeroom diagnose`: what is wrong in a deployment, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from homeroom.commands.options import DataOption, JsonOption, complaints, console, running
from homeroom.data_directory import DEFAULT, DataDirectory
from homeroom.diagnosis import Environments, diagnose_environments
from homeroom.environments import Configured, NoConfigurationError, of_current, of_files, of_stack
from homeroom.findings import SEVERITIES, at_least, is_critical, show

EXIT_CRITICAL = 1
EXIT_NOT_RUN = 2

EnvironmentOption = Annotated[
    bool,
    typer.Option("--environment", help="Check what each process needs around it, from configuration alone."),
]
EnvFileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--env-file",
        help="PROCESS=FILE: the environment of a process; may be repeated. "
        "Without it, the stack on the data folder is checked.",
    ),
]
ProcessOption = Annotated[
    list[str] | None,
    typer.Option("--process", help="Check this process with the current environment; may be repeated."),
]
SeverityOption = Annotated[
    str, typer.Option("--min-severity", help="Show what is as bad as this, or worse.", metavar="SEVERITY")
]


def diagnose(
    *,
    environment: EnvironmentOption = False,
    env_file: EnvFileOption = None,
    process: ProcessOption = None,
    min_severity: SeverityOption = "info",
    data: DataOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong, and say what to do.

    Exit code 1: something critical was found. Exit code 2: it could not be run.
    """
    severity = min_severity.upper()
    if severity not in SEVERITIES:
        choices = ", ".join(each.lower() for each in SEVERITIES)
        raise typer.BadParameter(f"{min_severity!r} is none of {choices}", param_hint="--min-severity")
    if not environment:
        raise typer.BadParameter("say what to diagnose: --environment", param_hint="--environment")
    try:
        configured = _configured(data, env_file or [], process or [])
    except NoConfigurationError as error:
        raise _not_run(str(error)) from error
    found = asyncio.run(diagnose_environments(configured))
    _tell(found, severity, as_json=as_json)
    if not found.ran:
        raise typer.Exit(EXIT_NOT_RUN)
    raise typer.Exit(EXIT_CRITICAL if is_critical(found.findings) else 0)


def _configured(data: Path, env_files: list[str], processes: list[str]) -> list[Configured]:
    """The processes to check: those of the files, those of the current environment, or those of the stack."""
    if env_files or processes:
        return [*of_files(env_files), *of_current(processes)]
    directory = DataDirectory(data)
    return of_stack(directory, running(directory))


def _tell(found: Environments, severity: str, *, as_json: bool) -> None:
    shown = at_least(found.findings, severity)
    if not as_json:
        show(shown, console)
        return
    processes = [
        {
            "process": each.process,
            "checked": list(each.checked),
            "seconds": each.seconds,
            "problem": each.problem or None,
        }
        for each in found.diagnoses
    ]
    typer.echo(json.dumps({"findings": shown, "processes": processes}, indent=2, ensure_ascii=False))


def _not_run(message: str) -> typer.Exit:
    complaints.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    return typer.Exit(EXIT_NOT_RUN)
