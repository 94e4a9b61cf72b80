"""A PostgreSQL as an operator should run it, a Redis of our own, and healthy processes on them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeroom.embedded.postgres import SETTINGS, Cluster
from homeroom.embedded.redis import Redis, find_binary
from homeroom.ports import free_ports
from homeroom.secrets_file import SecretsFile
from tests.environment.world import Ground
from tests.gateway.tokens import IdentityProvider
from tests.support.databases import Databases

MEMORY_BYTES_MIN = 2 * 1024**3


def memory() -> str | None:
    """A file system in memory, where fsync costs nothing: these databases are durable, as they should be."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > MEMORY_BYTES_MIN else None


@pytest.fixture(scope="session")
async def ground() -> AsyncIterator[Ground]:
    folder = Path(tempfile.mkdtemp(prefix="homeroom-tests-", dir=memory()))
    secrets = SecretsFile(folder / "secrets.json")
    (port,) = free_ports(1)
    cluster = Cluster(
        folder / "postgres",
        password=secrets.get("postgres"),
        run=folder / "run",
        log=folder / "postgres.log",
        settings={**SETTINGS, "shared_buffers": "32MB", "max_prepared_transactions": "5"},
        tcp_port=port,
    )
    binary = find_binary()
    redis = Redis(binary, run=folder / "run", log=folder / "redis.log") if binary else None
    jwks = folder / "jwks.json"
    jwks.write_bytes(IdentityProvider().jwks())
    jwks.chmod(0o644)
    try:
        await cluster.start()
        if redis is not None:
            await redis.start()
        ground = Ground(folder, cluster, port, Databases(cluster, secrets), redis, jwks)
        async with ground.until_end:
            yield ground
    finally:
        if redis is not None:
            await redis.stop()
        await cluster.stop(immediately=True)
        shutil.rmtree(folder)
