"""`homeroom token`: a bearer token for development."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from homeroom.commands.options import DataOption, fail
from homeroom.data_directory import DEFAULT, DataDirectory
from homeroom.keys import ROLES, DevelopmentKeys, ProductionModeError

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def token(
    *,
    user: Annotated[str, typer.Option(help="Whose token: the subject.")],
    role: Annotated[list[str] | None, typer.Option(help=f"{', '.join(ROLES)}; may be repeated.")] = None,
    ttl: Annotated[str, typer.Option(help="How long it is valid: 90s, 15m, 1h, 7d.")] = "1h",
    data: DataOption = DEFAULT,
) -> None:
    """Print a token that is signed with the development key of this data folder; make the key if missing."""
    roles = role or ["learner"]
    if unknown := set(roles) - set(ROLES):
        raise typer.BadParameter(f"no such role: {', '.join(sorted(unknown))}", param_hint="--role")
    seconds = parse_duration_seconds(ttl)
    if seconds is None:
        raise typer.BadParameter(f"{ttl!r} is not a duration such as 15m or 1h", param_hint="--ttl")
    try:
        keys = DevelopmentKeys(DataDirectory(data).keys)
    except ProductionModeError as error:
        raise fail(str(error)) from error
    typer.echo(keys.token(user, roles, ttl_seconds=seconds))


def parse_duration_seconds(text: str) -> int | None:
    """`90s`, `15m`, `1h`, `7d` in seconds; None for any other text, and for a duration of 0."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    return int(match[1]) * _UNIT_SECONDS[match[2]] if match else None
