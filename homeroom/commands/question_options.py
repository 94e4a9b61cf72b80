"""The options that the commands on question files share, and whose token they use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from homeroom.commands.options import fail, running_or_fail
from homeroom.data_directory import DataDirectory
from homeroom.keys import DevelopmentKeys, ProductionModeError

TestOption = Annotated[str, typer.Option("--test", help="The id of the test.")]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="The format of the file.", show_default="by its content or name"),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="HOMEROOM_URL", help="The gateway.", show_default="the stack on the data folder"
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="HOMEROOM_TOKEN",
        help="An administrator's bearer token.",
        show_default="made with the stack's development key",
    ),
]


def one_of(value: str | None, allowed: Sequence[str]) -> str | None:
    """The value, if it is allowed or None; ends the command otherwise."""
    if value is not None and value not in allowed:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(allowed)}", param_hint="--format")
    return value


def administrator_of(url: str | None, token: str | None, data: Path) -> tuple[str, str]:
    """The gateway and an administrator's token: as given, or those of the stack on the folder."""
    if url is not None and token is not None:
        return url, token
    if url is not None:
        raise fail("--url needs --token too: the development key belongs to the stack on the data folder")
    directory = DataDirectory(data)
    stack = running_or_fail(directory)
    try:
        return stack.gateway_url, token or DevelopmentKeys(directory.keys).token("operator", ("admin",))
    except ProductionModeError as error:
        raise fail(escape(str(error))) from error
