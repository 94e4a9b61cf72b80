"""The peers: each has a database with the same schema, and two of them have an HTTP process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench.load.identity import AUDIENCE, ISSUER
from bench.load.outcome import LoadOutcome
from bench.load.pgbench import run_pgbench
from bench.load.requests import RequestFile
from bench.load.wrk import run_wrk
from bench.systems import tables
from bench.systems.system import DatabaseAddress
from homeroom import probe
from homeroom.embedded.process import Program, end, spawn
from homeroom.ports import free_ports

SCHEMA = Path(__file__).parents[1] / "peers" / "schema.sql"
ROOT = Path(__file__).parents[2]
WRITTEN = ("daily_usage", "sessions", "idempotency_keys")
COUNTS = {
    "sessions": "SELECT count(*) FROM sessions",
    "idempotency keys": "SELECT count(*) FROM idempotency_keys",
    "units of quota": "SELECT sum(used) FROM daily_usage",
}
READY_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05
STOP_SECONDS_MAX = 10.0


class PeerDatabase:
    """The database of one peer."""

    def __init__(self, name: str, *, address: DatabaseAddress, learners: list[str]) -> None:
        self.name = f"peer_{name.replace('-', '_')}"
        self.dsn = address(self.name)
        self._admin_dsn = address("postgres")
        self._learners = learners

    async def create(self) -> None:
        await tables.create_database(self._admin_dsn, self.name)
        async with tables.connected(self.dsn) as connection:
            await connection.execute(SCHEMA.read_text())
        accounts = ((learner, "free", True) for learner in self._learners)
        await tables.copy_rows(self.dsn, "accounts", ("user_id", "plan_id", "active"), accounts)
        await tables.settle(self.dsn)
        await self.reset()

    async def counts(self) -> Mapping[str, int]:
        return await tables.count(self.dsn, COUNTS)

    async def reset(self) -> None:
        await tables.truncate(self.dsn, WRITTEN)


class HttpPeer:
    """A peer that serves HTTP: a command that finds its address and database in the environment."""

    def __init__(
        self,
        *,
        name: str,
        title: str,
        command: list[str],
        database: PeerDatabase,
        jwks: Path,
        directory: Path,
    ) -> None:
        self.name = name
        self.title = title
        self._command = command
        self._database = database
        self._jwks = jwks
        self._directory = directory
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None
        self.databases = (database.name,)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def processes(self) -> Mapping[str, int]:
        return {} if self._process is None else {self.name: self._process.pid}

    async def start(self) -> None:
        """Raises RuntimeError with the end of its log if it does not become ready."""
        await self._database.create()
        (self._port,) = free_ports(1)
        log = self._directory / f"{self.name}.log"
        self._process = await spawn(
            Program(
                name=self.name,
                command=[
                    sys.executable,
                    "-P",
                    "-m",
                    *(part.format(port=self._port) for part in self._command),
                ],
                environment=self._environment(),
                log=log,
                lock=self._directory / f"{self.name}.lock",
            )
        )
        if not await self._until_ready(self._process):
            await self.stop()
            raise RuntimeError(f"{self.name} does not become ready:\n{log.read_text()[-4000:]}")

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await end(process, signal.SIGTERM, grace_seconds=STOP_SECONDS_MAX)

    async def load(self, requests: RequestFile, *, connections: int, seconds: int) -> LoadOutcome:
        return await run_wrk(f"{self.url}/v1/sessions", requests, connections=connections, seconds=seconds)

    async def counts(self) -> Mapping[str, int]:
        return await self._database.counts()

    async def reset(self) -> None:
        await self._database.reset()

    async def _until_ready(self, process: asyncio.subprocess.Process) -> bool:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while process.returncode is None and time.monotonic() < deadline:
            answer = await probe.get(self._port, "/readyz")
            if answer is not None and answer.status == 200:
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    def _environment(self) -> dict[str, str]:
        return dict(os.environ) | {
            "PYTHONPATH": str(ROOT),
            "BENCH_DATABASE_URL": self._database.dsn,
            "BENCH_PORT": str(self._port),
            "BENCH_JWKS": str(self._jwks),
            "BENCH_JWT_ISSUER": ISSUER,
            "BENCH_JWT_AUDIENCE": AUDIENCE,
        }


class BarePostgres:
    """The upper bound: pgbench does the three writes and nothing else."""

    name = "pgbench"
    title = "pgbench, the bare writes"
    url = None

    def __init__(self, *, database: PeerDatabase) -> None:
        self._database = database
        self.databases = (database.name,)

    def processes(self) -> Mapping[str, int]:
        return {}

    async def start(self) -> None:
        await self._database.create()

    async def stop(self) -> None:
        """Nothing runs between two loads."""

    async def load(self, requests: RequestFile, *, connections: int, seconds: int) -> LoadOutcome:  # noqa: ARG002  # it makes its own learners
        return await run_pgbench(self._database.dsn, connections=connections, seconds=seconds)

    async def counts(self) -> Mapping[str, int]:
        return await self._database.counts()

    async def reset(self) -> None:
        await self._database.reset()
