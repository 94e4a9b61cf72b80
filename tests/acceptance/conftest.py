"""One stack for the acceptance tests: without Redis, with failpoints, and with every span in a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from homeroom.services import SERVICES
from homeroom.supervisor import Stack
from tests.support.http_client import HttpClient

# Long enough that the janitor never aborts the key of a client who retries through a restart; short enough
# that a test can wait for the janitor.
HOLD_AGE_SECONDS = 20


class TestedStack(Stack):
    """A stack whose failpoints can be armed and whose spans can be read."""

    failpoints: Path
    spans: Path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack() -> AsyncIterator[TestedStack]:
    # Not pytest's own folder: as root it is closed to the user that PostgreSQL runs as.
    root = Path(tempfile.mkdtemp(prefix="homeroom-acceptance-"))
    failpoints = root / "failpoints"
    failpoints.mkdir()
    env = {
        "HOMEROOM_FAILPOINTS_DIR": str(failpoints),
        "HOMEROOM_TRACE_FILE": str(root / "spans.jsonl"),
        "HOMEROOM_JANITOR_HOLD_AGE_SECONDS": str(HOLD_AGE_SECONDS),
        "HOMEROOM_JANITOR_INTERVAL_SECONDS": "0.5",
    }
    async with TestedStack(data_dir=root / "data", port=0, ephemeral=True, redis=False, env=env) as running:
        running.failpoints = failpoints
        running.spans = root / "spans.jsonl"
        yield running
        await running.wait_ready()
        errors = await running.internal_errors()
        assert errors == dict.fromkeys((service.package for service in SERVICES), 0)
    shutil.rmtree(root)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def http(stack) -> AsyncIterator[HttpClient]:
    """One client for all tests; see `HttpClient.statuses`."""
    client = HttpClient(base_url=stack.gateway_url, token=stack.token)
    yield client
    await client.close()
    assert client.statuses[500] == 0
