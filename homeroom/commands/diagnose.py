"""`homeroom diagnose`: what is wrong in a deployment, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn

from homeroom.commands.deployment import Deployment
from homeroom.commands.options import DataOption, JsonOption, complaints, console, running
from homeroom.commands.question_options import TokenOption, UrlOption
from homeroom.data_directory import DEFAULT, DataDirectory
from homeroom.diagnosis import Environments, diagnose_environments, stack_stopped
from homeroom.diagnostics_api import SERVICES, DiagnosticsApi, service_of
from homeroom.environments import Configured, NoConfigurationError, of_current, of_files, of_stack
from homeroom.findings import SEVERITIES, at_least, is_critical, show
from homeroom.school_diagnosis import Question, SchoolDiagnosis, diagnose_school

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
    user: Annotated[str, typer.Option("--user", help="Only what concerns this learner.")] = "",
    check: Annotated[
        list[str] | None, typer.Option("--check", help="Only this check; may be repeated.")
    ] = None,
    environment: EnvironmentOption = False,
    env_file: EnvFileOption = None,
    process: ProcessOption = None,
    min_severity: SeverityOption = "info",
    url: UrlOption = None,
    token: TokenOption = None,
    data: DataOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong in a school, and say what to do. With --environment: what is wrong around it.

    Exit code 1: something critical was found. Exit code 2: it could not be run.
    """
    severity = min_severity.upper()
    if severity not in SEVERITIES:
        choices = ", ".join(each.lower() for each in SEVERITIES)
        raise typer.BadParameter(f"{min_severity!r} is none of {choices}", param_hint="--min-severity")
    if not environment:
        question = Question(check or [], user, severity)
        raise typer.Exit(_diagnose_school(question, Deployment(url, token, data), as_json=as_json))
    try:
        configured = _configured(data, env_file or [], process or [])
    except NoConfigurationError as error:
        raise _not_run(str(error)) from error
    found = asyncio.run(diagnose_environments(configured))
    if not env_file and not process and running(DataDirectory(data)) is None:
        found.together.append(stack_stopped(data))
    _tell(found, severity, as_json=as_json)
    if not found.ran:
        raise typer.Exit(EXIT_NOT_RUN)
    raise typer.Exit(EXIT_CRITICAL if is_critical(found.findings) else 0)


def _diagnose_school(question: Question, deployment: Deployment, *, as_json: bool) -> int:
    """Ask the services, show what they found, and return the exit code."""
    services = _services_of(question.checks)

    async def work(api: DiagnosticsApi) -> SchoolDiagnosis:
        columns = (TextColumn("{task.description}"), TextColumn("{task.completed} rows"), SpinnerColumn())
        with Progress(*columns, console=complaints, transient=True) as progress:
            bars = {service: progress.add_task(service, total=None) for service in services}
            walked: dict[str, int] = {}

            def tell(service: str, told: dict[str, Any]) -> None:
                check = told["checkId"]
                walked[check] = int(told.get("walked", 0))
                progress.update(bars[service], description=check, completed=walked[check])

            return await diagnose_school(api, services, question, tell=tell)

    found = deployment.ask(work)
    if as_json:
        told = asdict(found)
        told["isCut"] = told.pop("is_cut")
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        show(found.findings, console)
        for each in found.checks:
            if each.problem:
                console.print(
                    f"[red]not run:[/] {escape(each.check)}: {escape(each.problem)}", soft_wrap=True
                )
        rows = sum(each.walked for each in found.checks)
        console.print(f"{len(found.checks)} checks looked at {rows} rows")
        if found.is_cut:
            console.print("[yellow]There are more findings: name a check, or a learner.[/]")
    for problem in found.problems:
        complaints.print(f"[bold red]error:[/] {escape(problem)}", soft_wrap=True)
    if is_critical(found.findings):
        return EXIT_CRITICAL
    return EXIT_NOT_RUN if found.problems or not found.checks else 0


def _services_of(checks: Sequence[str]) -> Sequence[str]:
    """The services that have these checks; all of them if none is named."""
    if not checks or any(each.startswith("environment.") for each in checks):
        return SERVICES
    services = {each: service_of(each) for each in checks}
    for each, service in services.items():
        if service is None:
            raise typer.BadParameter(
                f"{each!r} has to begin with one of {', '.join(SERVICES)}", param_hint="--check"
            )
    return [service for service in SERVICES if service in services.values()]


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
