"""`homeroom backup`: dumps of the databases of a running stack, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from homeroom.backups import dumping
from homeroom.backups.manifest import Manifest
from homeroom.commands.backup_options import ServiceOption, chosen, run_to_end, telling
from homeroom.commands.options import DataOption, JsonOption, console, running_or_fail
from homeroom.data_directory import DEFAULT, DataDirectory


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty, or not there yet.")],
    *,
    data: DataOption = DEFAULT,
    service: ServiceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back up the running stack while it serves: a dump of each database, and a manifest.

    Each dump is one moment of its database. The moments of the three are milliseconds apart, never the same.
    """
    directory = DataDirectory(data)
    running_or_fail(directory)
    with telling("taking snapshots") as tell:
        made = run_to_end(
            dumping.back_up(directory, folder.resolve(), chosen(service), say=tell.say, show=tell.show)
        )
    if as_json:
        typer.echo(made.as_json(), nl=False)
    else:
        console.print(_summary(folder, made), soft_wrap=True)


def _summary(folder: Path, made: Manifest) -> str:
    size = dumping.megabytes(sum(dump.bytes for dump in made.dumps.values()))
    return f"[bold green]backed up[/] {', '.join(made.dumps)} into {escape(str(folder))}: {size}"
