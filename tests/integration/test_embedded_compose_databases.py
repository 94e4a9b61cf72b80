"""What compose's PostgreSQL runs on its first start gives the same rights as the embedded one."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from homeroom.embedded.postgres import Cluster, find_binaries
from tests.support.databases import FAST_SETTINGS

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "postgres" / "create-databases.sh"
SERVICES = ("session", "subscription", "progress")


def password(role: str) -> str:
    return f'it\'s "{role}" $HOME \\ %'


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A PostgreSQL as the image has it before the script has run."""
    cluster = Cluster(
        folder / "postgres",
        password="superuser",
        run=folder / "run",
        log=folder / "postgres.log",
        settings=FAST_SETTINGS,
    )
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop(immediately=True)


async def run_script(cluster: Cluster, passwords: dict[str, str]) -> tuple[int, str]:
    script = await asyncio.create_subprocess_exec(
        SCRIPT,
        env={
            "PATH": os.pathsep.join([str(find_binaries()), os.defpath]),
            "PGHOST": str(cluster.socket_directory),
            "PGPASSWORD": "superuser",
            **passwords,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(script.communicate(), 60)
    return await script.wait(), output.decode()


async def test_each_service_gets_its_rows_and_no_more(cluster: Cluster) -> None:
    roles = [f"{service}_{kind}" for service in SERVICES for kind in ("owner", "service")]
    code, output = await run_script(cluster, {f"{role.upper()}_PASSWORD": password(role) for role in roles})
    assert code == 0, output
    for service in SERVICES:
        owner = await asyncpg.connect(
            cluster.dsn(service, user=f"{service}_owner", password=password(f"{service}_owner"))
        )
        await owner.execute("CREATE TABLE things (id serial PRIMARY KEY)")
        await owner.close()
        role = await asyncpg.connect(
            cluster.dsn(service, user=f"{service}_service", password=password(f"{service}_service"))
        )
        await role.execute("INSERT INTO things DEFAULT VALUES")
        for forbidden in (
            "CREATE TABLE more (id int)",
            "DROP TABLE things",
            "CREATE TEMPORARY TABLE t (id int)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await role.execute(forbidden)
        await role.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(
            cluster.dsn("progress", user="session_service", password=password("session_service"))
        )


async def test_a_missing_password_stops_it_and_is_named(cluster: Cluster) -> None:
    code, output = await run_script(cluster, {"SESSION_OWNER_PASSWORD": "only this one"})
    assert code != 0
    assert "SERVICE_PASSWORD" in output or "service_password" in output
