"""A service as a child of the test, run as an operator would: its command line, its log, its exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from chassis.rpc.client import Upstream
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-secret-among-processes"
SECONDS_MAX = 30.0


class ServiceProcess:
    """The child, on free ports that its log names."""

    def __init__(self, service: str, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.log = ""
        self._service = service
        self._port = 0
        self._ops_port = 0

    async def until_serving(self) -> None:
        """Return when it says so; fails with its log when it ended instead."""
        assert self.child.stdout is not None
        async with asyncio.timeout(SECONDS_MAX):
            while line := (await self.child.stdout.readline()).decode():
                self.log += line
                if '"event":"serving"' in line:
                    event = orjson.loads(line)
                    self._port, self._ops_port = event["port"], event["ops_port"]
                    return
        raise AssertionError(self.log)

    async def ended(self) -> int:
        """The exit code, when the child has ended and its log is complete."""
        async with asyncio.timeout(SECONDS_MAX):
            rest, _ = await self.child.communicate()
        self.log += rest.decode()
        assert self.child.returncode is not None
        return self.child.returncode

    async def page(self, path: str) -> tuple[int, str]:
        """Status and text of one of the operations pages."""
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{self._ops_port}{path}") as response,
        ):
            return response.status, await response.text()

    @asynccontextmanager
    async def upstream(self, **options: Any) -> AsyncIterator[Upstream]:
        """A client as the other processes have one; `options` are the Upstream's own."""
        client = Upstream(
            name=self._service,
            target=f"127.0.0.1:{self._port}",
            service_token=TOKEN,
            tracing=Tracing(service="test", version="0", sample_ratio=0.0),
            metrics=Metrics(service="test"),
            **options,
        )
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def started(service: str, *arguments: str, **settings: str) -> AsyncIterator[ServiceProcess]:
    """`python -m <service> <arguments>`, killed after the block if it is still there."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        service,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOMEROOM_MODE": "development",
            "HOMEROOM_BIND": "127.0.0.1:0",
            "HOMEROOM_OPS_BIND": "127.0.0.1:0",
            "HOMEROOM_SERVICE_TOKEN": TOKEN,
        }
        | settings,
    )
    try:
        yield ServiceProcess(service, child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()  # reads what is left, so that nothing of the pipe outlives the test


@asynccontextmanager
async def serving(service: str, **settings: str) -> AsyncIterator[ServiceProcess]:
    """`python -m <service>` with a migrated database, once it serves."""
    async with started(service, **settings) as process:
        await process.until_serving()
        yield process
