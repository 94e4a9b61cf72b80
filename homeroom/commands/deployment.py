"""The deployment that a command asks: one with a URL and a token, or the stack on the data folder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.markup import escape

from homeroom.api import Api, ApiError
from homeroom.commands.options import fail
from homeroom.commands.question_options import administrator_of
from homeroom.diagnostics_api import DiagnosticsApi

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where to ask, as the options of the command say."""

    url: str | None
    token: str | None
    data: Path

    def ask(self, work: Callable[[DiagnosticsApi], Awaitable[T]]) -> T:
        """Do this work as an administrator; a refusal, or no answer, ends the command."""
        base_url, admin_token = administrator_of(self.url, self.token, self.data)

        async def with_api() -> T:
            async with Api(base_url, admin_token) as api:
                return await work(DiagnosticsApi(api))

        try:
            return asyncio.run(with_api())
        except ApiError as error:
            raise fail(escape(str(error))) from error
