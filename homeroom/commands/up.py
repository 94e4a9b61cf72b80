"""`homeroom up`: run a whole stack on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from homeroom import demo_school
from homeroom.api import Api, ApiError
from homeroom.commands.options import DataOption, JsonOption, console, fail
from homeroom.data_directory import DEFAULT
from homeroom.services import GATEWAY
from homeroom.supervisor import Stack

DEFAULT_PORT = 8080
_TRIAL_TEST = "physics-01"
_TRIAL_USER = "ada"
_TRIAL_TOKEN_SECONDS = 24 * 3600


def up(
    *,
    data: DataOption = DEFAULT,
    port: Annotated[int, typer.Option(help="The gateway's port; 0 takes a free one.")] = DEFAULT_PORT,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Delete the data at the end.")] = False,
    redis: Annotated[bool, typer.Option("--redis/--no-redis", help="Run a Redis if one is found.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Start PostgreSQL, Redis and the four processes, keep them running, and stop them at Ctrl-C.

    The gateway listens on 127.0.0.1:PORT, the other processes on free ports that `homeroom status` shows.
    """
    try:
        asyncio.run(_until_told(_Up(data, port=port, ephemeral=ephemeral, redis=redis, as_json=as_json)))
    except (RuntimeError, OSError) as error:
        raise fail(escape(str(error))) from error


class _Up:
    """One run of the command."""

    def __init__(self, data: Path, *, port: int, ephemeral: bool, redis: bool, as_json: bool) -> None:
        self._began = time.monotonic()
        self._as_json = as_json
        temporary = ephemeral and data == DEFAULT
        self._stack = Stack(
            None if temporary else data, port=port, ephemeral=ephemeral, redis=redis, say=self._say
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with self._stack:
                await self._seed_once()
                self._announce()
                await asyncio.Event().wait()
        finally:
            self._say("stopped")

    def hurry(self) -> None:
        self._stack.hurry()

    def _say(self, line: str) -> None:
        if not self._as_json:
            console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {escape(line)}")

    async def _seed_once(self) -> None:
        mark = self._stack.data.seeded
        if mark.exists():
            return
        async with Api(self._stack.gateway_url, self._stack.token("demo-admin", ("admin",))) as admin:
            try:
                seeded = await demo_school.seed(admin)
            except ApiError as error:
                self._say(f"the demo could not be seeded (try `homeroom seed` later): {error}")
                return
        mark.touch()
        self._say(f"seeded {seeded.accounts} accounts and {seeded.tests} tests to try")

    def _announce(self) -> None:
        url = self._stack.gateway_url
        token = self._stack.token(_TRIAL_USER, ttl_seconds=_TRIAL_TOKEN_SECONDS)
        curl = " ".join(
            (
                f"curl -X POST {url}/v1/sessions",
                f"-H 'Authorization: Bearer {token}'",
                "-H 'Content-Type: application/json'",
                "-H 'Idempotency-Key: \"my-first-start\"'",
                f"-d '{json.dumps({'testId': _TRIAL_TEST})}'",
            )
        )
        if self._as_json:
            ready = {"gateway_url": url, "data": str(self._stack.data_dir), "try": curl}
            print(json.dumps(ready), flush=True)  # noqa: T201  # one line for a machine, never wrapped
            return
        seconds = time.monotonic() - self._began
        metrics = f"http://{self._stack.address(GATEWAY.package).ops_target}/metrics"
        console.print(
            f"\n[bold green]Homeroom is ready[/] in {seconds:.1f} s   [bold]{url}[/]"
            f"   metrics {metrics}   data {self._stack.data_dir}\n",
            soft_wrap=True,
        )
        console.print("Try it:\n", Text(curl), "\n", sep="", soft_wrap=True)
        console.print("[dim]`homeroom demo` gives a tour, `homeroom status` looks around, Ctrl-C stops.[/]\n")


async def _until_told(command: _Up) -> None:
    """Run until SIGINT, SIGTERM or SIGHUP; then stop in order. A second signal kills the processes."""
    running = asyncio.create_task(command.run())

    def stop() -> None:
        if not running.cancelling():
            running.cancel()
        else:
            command.hurry()

    for told in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(told, stop)
    try:
        await running
    except asyncio.CancelledError:
        return
