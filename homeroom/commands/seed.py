"""`homeroom seed`: a small school for trials."""

from __future__ import annotations

import asyncio

from rich.markup import escape

from homeroom import demo_school
from homeroom.api import Api, ApiError
from homeroom.commands.options import DataOption, console, fail, running_or_fail
from homeroom.data_directory import DEFAULT, DataDirectory
from homeroom.keys import DevelopmentKeys


def seed(*, data: DataOption = DEFAULT) -> None:
    """Create the demo's school through the HTTP API; a second time changes nothing."""
    directory = DataDirectory(data)
    stack = running_or_fail(directory)
    token = DevelopmentKeys(directory.keys).token("demo-admin", ("admin",))
    try:
        seeded = asyncio.run(_seed(stack.gateway_url, token))
    except ApiError as error:
        raise fail(escape(str(error))) from error
    directory.seeded.touch()
    console.print(
        f"{seeded.accounts} accounts, {seeded.tests} tests, {seeded.questions} questions are in place"
    )


async def _seed(gateway_url: str, token: str) -> demo_school.Seeded:
    async with Api(gateway_url, token) as admin:
        return await demo_school.seed(admin)
