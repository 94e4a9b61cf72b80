"""`homeroom restore`, and `homeroom discard` for what it keeps."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from rich.markup import escape

from homeroom.backups import restoring, swapping
from homeroom.backups.restoring import Restored
from homeroom.backups.sites import empty_cache, quiet
from homeroom.commands.backup_options import ServiceOption, Telling, chosen, run_to_end, telling
from homeroom.commands.options import DataOption, JsonOption, console, fail, running, running_or_fail
from homeroom.data_directory import DEFAULT, DataDirectory
from homeroom.embedded.clusters import cluster_of


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `homeroom backup` has made.")],
    *,
    data: DataOption = DEFAULT,
    service: ServiceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put databases back to a backup. Their services stop for it, and start again.

    A stack that does not run is restored, too. What was written since the backup is lost for the services;
    the databases that were there before are kept beside, until `homeroom discard`.
    """
    with telling("reading the backup") as tell:
        restored = run_to_end(_restore(DataDirectory(data), folder.resolve(), chosen(service), tell))
    if as_json:
        typer.echo(json.dumps({"restored": [asdict(each) for each in restored]}, indent=2))
        return
    for each in restored:
        console.print(
            f"[bold green]restored[/] {each.database}: {each.rows:,} rows, as of {each.snapshot_at}",
            soft_wrap=True,
        )
    where = "" if data == DEFAULT else f" --data {data}"
    for each in restored:
        if each.kept is not None:
            console.print(
                f"What was there before is kept as {each.kept}. To drop it: "
                f"homeroom discard {each.kept}{escape(where)}",
                soft_wrap=True,
            )


async def _restore(data: DataDirectory, folder: Path, databases: list[str], tell: Telling) -> list[Restored]:
    stack = running(data)
    if stack is not None and not stack.ready:
        raise fail(f"the stack on {data.root} is still starting")
    found = restoring.check(folder, databases, say=tell.say)
    dumps = {name: found.dumps[name] for name in databases}
    async with quiet(data, stack, databases, say=tell.say) as cluster:
        restored = await restoring.restore(
            data,
            cluster,
            folder,
            dumps,
            empty_cache=lambda: empty_cache(data, stack, databases),
            say=tell.say,
            show=tell.show,
        )
        data.seeded.touch()  # `up` adds its demo to an empty school only
    return restored


def discard(
    name: Annotated[str | None, typer.Argument(help="As `homeroom restore` has said.")] = None,
    *,
    data: DataOption = DEFAULT,
) -> None:
    """Drop a database that `homeroom restore` has kept; without a name, list them."""
    directory = DataDirectory(data)
    running_or_fail(directory)
    for line in run_to_end(_discard(directory, name)):
        console.print(line)


async def _discard(data: DataDirectory, name: str | None) -> list[str]:
    admin = await asyncpg.connect(cluster_of(data, data.secrets()).dsn("postgres"))
    try:
        if name is None:
            return await swapping.list_kept(admin)
        await swapping.discard(admin, name)
        return [f"dropped {name}"]
    finally:
        await admin.close()
