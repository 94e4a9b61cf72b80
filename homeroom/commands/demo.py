"""`homeroom demo`: a tour that explains each step and checks its result."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated

import typer
from rich.markup import escape

from homeroom.api import Api, ApiError
from homeroom.commands.options import DataOption, console, fail, running_or_fail
from homeroom.data_directory import DEFAULT, DataDirectory
from homeroom.keys import DevelopmentKeys
from homeroom.tour import Tour, TourError

TimesOption = Annotated[int, typer.Option(min=1, help="Take the tour so often, each time as a new visitor.")]


def demo(*, data: DataOption = DEFAULT, times: TimesOption = 1) -> None:
    """Play a learner's day on the running stack: retries, two tabs, the limit, a killed process.

    Every step is checked; exit code 1 if a result is wrong. Each tour makes one new account, and changes no
    other.
    """
    directory = DataDirectory(data)
    stack = running_or_fail(directory)
    try:
        for _ in range(times):
            asyncio.run(_tour(directory, stack.gateway_url))
    except (TourError, ApiError) as error:
        raise fail(escape(str(error))) from error
    console.print("\n[bold green]Everything held.[/] Run it again: each visitor is a new learner.\n")


async def _tour(directory: DataDirectory, gateway_url: str) -> None:
    keys = DevelopmentKeys(directory.keys)
    user_id = f"visitor-{secrets.token_hex(4)}"
    async with (
        Api(gateway_url, keys.token("demo-admin", ("admin",))) as admin,
        Api(gateway_url, keys.token(user_id)) as learner,
    ):
        await Tour(
            admin=admin, learner=learner, user_id=user_id, state_file=directory.state, console=console
        ).run()
