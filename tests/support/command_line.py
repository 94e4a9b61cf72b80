"""Runs `homeroom` as a person would: real processes, a real terminal's signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeroom import ops_pages, state
from homeroom.data_directory import DataDirectory
from homeroom.embedded.process import holder

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("gateway", "session_service", "progress_service", "subscription_service", "redis", "postgres")
READY_SECONDS_MAX = 180
STOP_SECONDS_MAX = 90


@dataclass(frozen=True, slots=True)
class Finished:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.stdout)
        return answer


class Up:
    """A running `homeroom up`."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Mapping[str, str]) -> None:
        self.process = process
        self.url = ready["gateway_url"]
        self.curl = ready["try"]
        self.data = DataDirectory(Path(ready["data"]))

    @property
    def state(self) -> state.StackState:
        found = state.read(self.data.state)
        assert found is not None
        return found

    def pid(self, name: str) -> int:
        pid = self.state.process(name).pid
        assert pid is not None
        return pid

    async def stop(self, told: signal.Signals = signal.SIGINT) -> int:
        """Tell it to end as a terminal does, and return its exit code."""
        await self.check_for_internal_errors()
        self.process.send_signal(told)
        return await asyncio.wait_for(self.process.wait(), STOP_SECONDS_MAX)

    async def check_for_internal_errors(self) -> None:
        """Fail if one of the processes that run now has answered a call with a 500."""
        found = state.read(self.data.state)
        processes = found.processes if found is not None else ()
        errors = await ops_pages.internal_errors(
            {process.name: process.ops_port for process in processes if process.ops_port is not None}
        )
        assert not any(errors.values()), errors

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    def still_running(self) -> list[str]:
        """The processes of this stack that the kernel knows of, by the locks they hold."""
        return [name for name in (*NAMES, "supervisor") if holder(self.data.lock(name)) is not None]


async def start(*arguments: str, mode: str = "") -> asyncio.subprocess.Process:
    """Start `homeroom` with its output in pipes; of Homeroom's settings only the mode is set."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "homeroom", *arguments),
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")},
            "HOMEROOM_MODE": mode,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(*arguments: str, mode: str = "") -> Finished:
    """Run a `homeroom` command to its end."""
    process = await start(*arguments, mode=mode)
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), READY_SECONDS_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Finished(process.returncode, stdout.decode(), stderr.decode())


@asynccontextmanager
async def up(*arguments: str, port: int = 0) -> AsyncIterator[Up]:
    """`homeroom up`, ready; ended at the end whatever its state is. Fails if it has answered with a 500."""
    process = await start("up", "--json", "--port", str(port), *arguments)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = await asyncio.wait_for(process.stdout.readline(), READY_SECONDS_MAX)
        if not line:
            raise AssertionError(f"`homeroom up` ended: {(await process.stderr.read()).decode()}")
        running = Up(process, json.loads(line))
        yield running
        if process.returncode is None:
            await running.check_for_internal_errors()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
