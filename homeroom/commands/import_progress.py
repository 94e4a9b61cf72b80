"""`homeroom import progress`: the levels, XP and completions of a team that moves in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from homeroom.commands.options import DataOption, JsonOption, running_or_fail
from homeroom.data_directory import DEFAULT, DataDirectory
from homeroom.embedded.clusters import cluster_of
from homeroom.embedded.provisioning import service_database
from homeroom.services import PROGRESS, import_path, module_command


def import_progress(
    file: Annotated[Path, typer.Argument(help="A .csv with a header, or a .jsonl.")],
    *,
    data: DataOption = DEFAULT,
    database_url: Annotated[
        str,
        typer.Option(
            envvar="HOMEROOM_PROGRESS_DATABASE_URL",
            help="The progress database of another stack, as its service role.",
            show_default=False,
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option(help="Write the same report, and change nothing.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Where to write the report.", show_default="FILE.report.jsonl")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import levels, XP and completions from a file; a second time changes nothing."""
    address = database_url or _address(DataDirectory(data))
    arguments = ["--report", str(report)] if report is not None else []
    arguments += ["--dry-run"] * dry_run + ["--json"] * as_json + ["--", str(file)]
    finished = subprocess.run(  # noqa: S603 - our own module, and arguments that no shell reads
        [*module_command(PROGRESS.package), "import", *arguments],
        env={
            **{name: value for name, value in os.environ.items() if name != "HOMEROOM_DATABASE_URL_FILE"},
            "HOMEROOM_DATABASE_URL": address,
            "PYTHONPATH": import_path(),
        },
        check=False,
    )
    raise typer.Exit(finished.returncode)


def _address(directory: DataDirectory) -> str:
    """The database of the stack that runs on this folder, as its service role."""
    running_or_fail(directory)
    database = PROGRESS.database or ""
    secrets = directory.secrets()
    cluster = cluster_of(directory, secrets)
    return service_database(cluster, secrets, database=database, service=database).service
