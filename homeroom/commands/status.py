"""`homeroom status`: which processes run, where, and whether they are healthy."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import typer
from rich.table import Table

from homeroom import probe
from homeroom.commands.options import DataOption, JsonOption, console, fail, running
from homeroom.data_directory import DEFAULT, DataDirectory
from homeroom.state import ProcessState


@dataclass(frozen=True, slots=True)
class Health:
    """One process as it is now; `version` is None for PostgreSQL and Redis, which are not ours."""

    name: str
    pid: int | None
    port: int | None
    ops_port: int | None
    healthy: bool
    version: str | None
    restarts: int
    started_at: str | None


def status(*, data: DataOption = DEFAULT, as_json: JsonOption = False) -> None:
    """Show each process: pid, port, healthy, version, restarts. Exit code 1 if something is down."""
    stack = running(DataDirectory(data))
    if stack is None:
        if not as_json:
            raise fail(f"no stack runs on {data}")
        typer.echo(json.dumps({"running": False, "healthy": False, "processes": []}))
        raise typer.Exit(1)
    processes = asyncio.run(_look(stack.processes))
    healthy = stack.ready and all(process.healthy for process in processes)
    if as_json:
        report = {"running": True, "healthy": healthy, "gateway_url": stack.gateway_url}
        typer.echo(json.dumps({**report, "processes": [asdict(process) for process in processes]}, indent=2))
    else:
        console.print(_table(processes))
        console.print(f"gateway [bold]{stack.gateway_url}[/]   supervisor {stack.supervisor_pid}")
    raise typer.Exit(0 if healthy else 1)


async def _look(processes: tuple[ProcessState, ...]) -> list[Health]:
    return await asyncio.gather(*(_look_at(process) for process in processes))


async def _look_at(process: ProcessState) -> Health:
    version = None
    if process.ops_port is None:
        healthy = process.pid is not None and _exists(process.pid)
    else:
        ready, about = await asyncio.gather(
            probe.get(process.ops_port, "/readyz"), probe.get(process.ops_port, "/version")
        )
        healthy = ready is not None and ready.status == 200
        version = _version(about)
    return Health(
        name=process.name,
        pid=process.pid,
        port=process.port,
        ops_port=process.ops_port,
        healthy=healthy,
        version=version,
        restarts=process.restarts,
        started_at=process.started_at,
    )


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _version(answer: probe.Answer | None) -> str | None:
    if answer is None or answer.status != 200:
        return None
    try:
        version = json.loads(answer.body)["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(version)


def _table(processes: list[Health]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("process", "", "pid", "port", "ops", "version", "restarts", "up"):
        table.add_column(
            heading, justify="right" if heading in {"pid", "port", "ops", "restarts"} else "left"
        )
    for process in processes:
        table.add_row(
            process.name,
            "[green]healthy[/]" if process.healthy else "[bold red]down[/]",
            *(
                str(value) if value is not None else ""
                for value in (process.pid, process.port, process.ops_port)
            ),
            process.version or "",
            str(process.restarts),
            _uptime(process.started_at),
        )
    return table


def _uptime(started_at: str | None) -> str:
    if started_at is None:
        return ""
    elapsed = datetime.now(UTC) - datetime.fromisoformat(started_at)
    return str(timedelta(seconds=int(elapsed.total_seconds())))
