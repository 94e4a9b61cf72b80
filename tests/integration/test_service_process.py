"""A service process names a wrong database, waits for one that starts, and shows one that is down."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from chassis.errors import ServiceError
from chassis.postgres.migrations import FOLDER, migrate
from homeroom.embedded.postgres import Cluster
from homeroom.embedded.provisioning import ServiceDatabase, provision
from homeroom.secrets_file import SecretsFile
from tests.support.databases import FAST_SETTINGS
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres_proxy import PostgresProxy
from tests.support.service_process import ServiceProcess, serving, started
from tests.support.waiting import eventually

SERVICE = "tests.support.bare_service"


@pytest.fixture
async def migrated(empty_database: ServiceDatabase) -> ServiceDatabase:
    await migrate(empty_database.owner, {"chassis": FOLDER})
    return empty_database


def lines(process: ServiceProcess) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in process.log.splitlines() if line.startswith("{")]


def wrong_password(dsn: str) -> str:
    head, _, rest = dsn.partition("@")
    return f"{head.rpartition(':')[0]}:wrong@{rest}"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (wrong_password, "the user or the password"),
        (lambda dsn: dsn.replace("empty_service", "nobody"), "the user or the password"),
        (lambda dsn: dsn.replace("@/empty_", "@/missing_"), "no database of this name"),
        (lambda dsn: dsn.partition("@")[0] + "@no-such-host.invalid/db", "host name"),
        (lambda _: "postgresql://user:secret@[::1/db", "not a URI"),
        (lambda _: "mysql://user:secret@localhost/db", "not a URI"),
    ],
    ids=["password", "user", "database", "host", "address", "scheme"],
)
@pytest.mark.parametrize(
    ("command", "variable"),
    [("run", "HOMEROOM_DATABASE_URL"), ("migrate", "HOMEROOM_MIGRATION_DATABASE_URL")],
)
async def test_a_wrong_database_address_is_a_matter_of_configuration(
    migrated: ServiceDatabase, spoil: Any, complaint: str, command: str, variable: str
) -> None:
    async with started(SERVICE, command, **{variable: spoil(migrated.service)}) as process:
        assert await process.ended() == 78, process.log
    (line,) = [line for line in lines(process) if line["level"] != "info"]
    assert line["event"] == "configuration_refused"
    (problem,) = line["problems"]
    assert problem.startswith(f"{variable} cannot be used: ")
    assert complaint in problem
    assert "Traceback" not in process.log
    assert "secret" not in process.log


async def test_a_database_that_comes_up_a_little_later_is_waited_for(migrated: ServiceDatabase) -> None:
    async with PostgresProxy(migrated.service).running() as proxy:
        proxy.refuse = True
        async with started(SERVICE, HOMEROOM_DATABASE_URL=proxy.dsn) as process:
            await eventually(lambda: proxy.refused >= 2, seconds=30)
            proxy.refuse = False
            await process.until_serving()
            process.child.send_signal(signal.SIGTERM)
            assert await process.ended() == 0


async def test_a_database_that_stays_away_ends_the_start_in_one_line(migrated: ServiceDatabase) -> None:
    async with PostgresProxy(migrated.service).running() as proxy:
        proxy.refuse = True
        async with started(SERVICE, HOMEROOM_DATABASE_URL=proxy.dsn) as process:
            assert await process.ended() == 1
    (line,) = [line for line in lines(process) if line["level"] == "critical"]
    assert (line["event"], line["problem"]) == ("start_failed", "cannot connect to the database")
    assert "Traceback" not in process.log


async def test_a_start_that_waits_for_its_database_can_be_stopped(migrated: ServiceDatabase) -> None:
    async with PostgresProxy(migrated.service).running() as proxy:
        proxy.refuse = True
        async with started(SERVICE, HOMEROOM_DATABASE_URL=proxy.dsn) as process:
            await eventually(lambda: proxy.refused, seconds=30)
            process.child.send_signal(signal.SIGTERM)
            assert await process.ended() == 0


async def test_a_database_without_tables_ends_the_start_in_one_line(empty_database: ServiceDatabase) -> None:
    async with started(SERVICE, HOMEROOM_DATABASE_URL=empty_database.service) as process:
        assert await process.ended() == 1
    (line,) = [line for line in lines(process) if line["level"] == "critical"]
    assert line["event"] == "start_failed"
    assert "migrate" in line["problem"]
    assert "Traceback" not in process.log


async def test_the_setting_for_pgbouncer_reaches_the_database(migrated: ServiceDatabase) -> None:
    async with pgbouncer(migrated.service) as (address,):
        settings = {"HOMEROOM_DATABASE_URL": address, "HOMEROOM_DATABASE_STATEMENT_CACHE": "0"}
        async with serving(SERVICE, **settings) as process:
            await eventually(lambda: _succeeded(process, "purge_keys"))
            assert (await process.page("/readyz"))[0] == 200
            process.child.send_signal(signal.SIGTERM)
            assert await process.ended() == 0
    assert not [line for line in lines(process) if line["level"] != "info"], process.log


async def _succeeded(process: ServiceProcess, job: str) -> bool:
    """Whether a round of this job has succeeded, as the metrics say."""
    _, page = await process.page("/metrics")
    name = f'homeroom_job_last_success_timestamp_seconds{{job="{job}"}} '
    return any(line.startswith(name) and float(line.split()[-1]) > 0 for line in page.splitlines())


@pytest.fixture
async def own_cluster() -> AsyncIterator[tuple[Cluster, ServiceDatabase]]:
    """A PostgreSQL that a test may stop."""
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
        database = await provision(cluster, secrets, "empty")
        await migrate(database.owner, {"chassis": FOLDER})
        yield cluster, database
    finally:
        await cluster.stop(immediately=True)
        shutil.rmtree(folder)


async def is_ready(process: ServiceProcess, wanted: bool) -> bool:
    """Whether the operations page and the gRPC server both say so."""
    status, _ = await process.page("/readyz")
    async with process.upstream() as upstream:
        try:
            await upstream.check_health()
        except ServiceError:
            return not wanted and status == 503
    return wanted and status == 200


@pytest.mark.fault
async def test_readiness_follows_a_database_that_is_down(
    own_cluster: tuple[Cluster, ServiceDatabase],
) -> None:
    cluster, database = own_cluster
    async with serving(SERVICE, HOMEROOM_DATABASE_URL=database.service) as process:
        await eventually(lambda: is_ready(process, True), seconds=30)
        await cluster.stop()
        await eventually(lambda: is_ready(process, False), seconds=30)
        await cluster.start()
        await eventually(lambda: is_ready(process, True), seconds=30)


@pytest.mark.fault
async def test_readiness_follows_a_database_that_is_stopped_and_goes_on(
    own_cluster: tuple[Cluster, ServiceDatabase],
) -> None:
    cluster, database = own_cluster
    async with serving(SERVICE, HOMEROOM_DATABASE_URL=database.service) as process:
        await eventually(lambda: is_ready(process, True), seconds=30)
        stopped = _processes_of(cluster)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            await eventually(lambda: is_ready(process, False), seconds=30)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        await eventually(lambda: is_ready(process, True), seconds=30)


def _processes_of(cluster: Cluster) -> list[int]:
    """The postmaster, which starts no further process once it is stopped, and its children."""
    assert cluster.pid is not None
    children = Path(f"/proc/{cluster.pid}/task/{cluster.pid}/children").read_text()
    return [cluster.pid, *map(int, children.split())]
