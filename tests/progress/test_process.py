"""`python -m progress_service` as a process: migrate, serve, die at the worst moment, end in order."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from chassis import failpoints
from chassis.batch import Reply
from chassis.call import service_call
from chassis.client import Upstream
from chassis.metrics import Metrics
from chassis.tracing import Tracing
from homeroom.embedded.provisioning import ServiceDatabase
from protos.progress.v1 import progress_pb2
from tests.progress.results import learner
from tests.progress.test_rpc import RECORD, TOKEN, result, stats, tell

SECONDS_MAXIMUM = 30.0


class Process:
    """The service as a child of the test, on free ports that its log names."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.port = 0
        self.ops_port = 0
        self.log: list[str] = []

    async def serving(self) -> None:
        assert self.child.stdout is not None
        async with asyncio.timeout(SECONDS_MAXIMUM):
            while line := (await self.child.stdout.readline()).decode():
                self.log.append(line)
                if '"event":"serving"' in line:
                    event = orjson.loads(line)
                    self.port, self.ops_port = event["port"], event["ops_port"]
                    return
        raise AssertionError("".join(self.log))

    async def ended(self) -> int:
        async with asyncio.timeout(SECONDS_MAXIMUM):
            return await self.child.wait()

    async def ops(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{self.ops_port}{path}") as response,
        ):
            return response.status, await response.text()


@asynccontextmanager
async def started(*arguments: str, **settings: str) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "progress_service",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "HOMEROOM_MODE": "development",
            "HOMEROOM_BIND": "127.0.0.1:0",
            "HOMEROOM_OPS_BIND": "127.0.0.1:0",
            "HOMEROOM_SERVICE_TOKEN": TOKEN,
        }
        | settings,
    )
    try:
        yield Process(child)
    finally:
        if child.returncode is None:
            child.kill()
        # Reads what is left, so that nothing of the pipe outlives the test.
        await child.communicate()


@asynccontextmanager
async def upstream_of(process: Process) -> AsyncIterator[Upstream]:
    client = Upstream(
        name="progress_service",
        target=f"127.0.0.1:{process.port}",
        service_token=TOKEN,
        tracing=Tracing(service="test", version="0", sample_ratio=0.0),
        metrics=Metrics(service="test"),
    )
    yield client
    await client.close()


async def test_a_migrated_database_is_served_and_the_process_ends_in_order(
    empty_database: ServiceDatabase,
) -> None:
    async with started("migrate", HOMEROOM_MIGRATION_DATABASE_URL=empty_database.owner) as migration:
        assert await migration.ended() == 0
    async with started(HOMEROOM_DATABASE_URL=empty_database.service) as process:
        await process.serving()
        assert (await process.ops("/livez"))[0] == 200
        status, page = await process.ops("/readyz")
        assert (status, orjson.loads(page)["checks"][0]["name"]) == (200, "database")
        async with upstream_of(process) as upstream:
            ada = learner("ada")
            await tell(upstream, result(ada, "s1"))
            assert (await stats(upstream, ada)).version == 1
        status, page = await process.ops("/metrics")
        assert re.search(r'homeroom_session_results_total\{verdict="recorded"\} 1\.0', page)
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_a_database_without_tables_is_not_served(empty_database: ServiceDatabase) -> None:
    async with started(HOMEROOM_DATABASE_URL=empty_database.service) as process:
        output, _ = await asyncio.wait_for(process.child.communicate(), SECONDS_MAXIMUM)
        assert process.child.returncode != 0
        assert b"migrate" in output


async def test_what_is_missing_in_the_environment_is_named(empty_database: ServiceDatabase) -> None:
    async with started(HOMEROOM_OPS_BIND="") as process:
        output, _ = await asyncio.wait_for(process.child.communicate(), SECONDS_MAXIMUM)
        assert process.child.returncode == 78
        assert b"HOMEROOM_DATABASE_URL" in output
        assert b"HOMEROOM_OPS_BIND" in output


@pytest.mark.fault
async def test_a_result_is_counted_once_though_the_process_dies_before_it_answers(
    progress_database: ServiceDatabase, tmp_path: Path
) -> None:
    ada = learner("ada")
    settings = {
        "HOMEROOM_DATABASE_URL": progress_database.service,
        "HOMEROOM_FAILPOINTS_DIR": str(tmp_path),
    }
    async with started(**settings) as process:
        await process.serving()
        failpoints.arm(tmp_path, "progress.after_commit", "kill")
        async with upstream_of(process) as upstream:
            (outcome,) = await upstream.call_many(
                RECORD, [(result(ada, "s1"), service_call(RECORD, timeout_seconds=2))]
            )
            assert not isinstance(outcome, Reply)
        assert await process.ended() == -signal.SIGKILL
    async with started(**settings) as process:
        await process.serving()
        async with upstream_of(process) as upstream:
            (outcome,) = await tell(upstream, result(ada, "s1"))
            assert isinstance(outcome, Reply), outcome
            response = progress_pb2.RecordSessionResultResponse.FromString(outcome.payload())
            assert response == progress_pb2.RecordSessionResultResponse(recorded=False, version=1)
            read = await stats(upstream, ada)
            assert (read.completed_sessions, read.xp, read.version) == (1, 10, 1)
