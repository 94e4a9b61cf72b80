"""The commands of the page for operators do what it says, on a real server in the place of compose's."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from chassis.postgres.migrations import migrate
from homeroom.data_directory import DataDirectory
from homeroom.embedded.clusters import cluster_of
from homeroom.embedded.postgres import SUPERUSER, Cluster, find_binaries
from homeroom.embedded.provisioning import provision, service_database
from homeroom.schema import is_current, migration_folders
from homeroom.services import STORES
from tests.support.databases import FAST_SETTINGS
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the page is for shells of Linux")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations" / "rollback.md"
# `docker compose exec` runs the program here, on the socket of the test's server; the rest is written down.
DOCKER = """
docker() {
  case "$*" in
    "compose exec -T --user postgres postgres "*) shift 6; "$@" ;;
    *) echo "$*" >> "$TOLD" ;;
  esac
}
"""


class Server:
    """A server with the three databases, and a shell that takes it for compose's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = DataDirectory(root / "data")
        self.data.root.mkdir()
        self.cluster: Cluster = cluster_of(self.data, self.data.secrets(), settings=FAST_SETTINGS)

    def address(self, database: str, role: str) -> str:
        addresses = service_database(self.cluster, self.data.secrets(), database=database, service=database)
        return str(getattr(addresses, role))

    async def tell(self, database: str, role: str, statement: str) -> object:
        connection = await asyncpg.connect(self.address(database, role))
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def run(self, *blocks: str) -> list[str]:
        """Run blocks of the page in one folder; returns what docker was told besides."""
        told = self.root / "told"
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", "\n".join([DOCKER, *blocks])),
            cwd=self.root,
            env={
                "PATH": os.pathsep.join([str(find_binaries()), os.environ["PATH"]]),
                "PGHOST": str(self.cluster.socket_directory),
                "POSTGRES_PASSWORD": self.data.secrets().get(SUPERUSER),
                "TOLD": str(told),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(shell.communicate(), 120)
        assert shell.returncode == 0, output.decode()
        return told.read_text().splitlines() if told.exists() else []


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    root = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    server = Server(root)
    try:
        await server.cluster.start()
        for database, service in STORES.items():
            made = await provision(server.cluster, server.data.secrets(), database)
            await migrate(made.owner, migration_folders(service.package))
        yield server
    finally:
        await server.cluster.stop(immediately=True)
        shutil.rmtree(root)


def blocks() -> tuple[str, str, str, str]:
    """How to run a program, back up, restore `session`, and what else to do for `subscription`."""
    found = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    run, back_up, restore, follow_up = found
    return run, back_up, restore, follow_up


ADD_EVENT = (
    "INSERT INTO outbox (user_id, event_id, topic, payload) VALUES ('ann', gen_random_uuid(), 'x', '')"
)


async def test_the_commands_for_dumps_back_up_and_restore_one_database(server: Server) -> None:
    run, back_up, restore, _ = blocks()
    await server.tell("session", "service", ADD_EVENT)
    assert await server.run(run, back_up) == []
    assert sorted(path.name for path in server.root.iterdir() if path.is_file()) == [
        "SHA256SUMS",
        "progress.dump",
        "roles.sql",
        "session.dump",
        "subscription.dump",
    ]
    assert "session_service" in (server.root / "roles.sql").read_text()
    await server.tell("session", "service", ADD_EVENT)
    told = await server.run(run, restore)
    assert told == [
        "compose stop session_service",
        "compose run --rm session_migrate",
        "compose start session_service",
    ]
    assert await server.tell("session", "service", "SELECT count(*) FROM outbox") == 1
    assert await server.tell("session_before_restore", "superuser", "SELECT count(*) FROM outbox") == 2
    assert await is_current(STORES["session"], server.address("session", "owner"))
    await server.tell("session", "service", ADD_EVENT)
    for forbidden in ("CREATE TABLE more (id int)", "DROP TABLE outbox", "TRUNCATE outbox"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await server.tell("session", "service", forbidden)
    await server.tell("session", "owner", "CREATE TABLE more (id int)")


async def test_the_statements_for_subscription_do_what_a_restore_by_homeroom_does(server: Server) -> None:
    run, _, _, follow_up = blocks()
    await server.tell(
        "session",
        "service",
        "INSERT INTO hold_watermarks VALUES ('method', now(), 'ann', gen_random_uuid())",
    )
    await server.run(run, follow_up)
    assert await server.tell("subscription", "service", "SELECT origin FROM license_feed") == 2**32
    assert await server.tell("session", "service", "SELECT count(*) FROM hold_watermarks") == 0


async def test_the_commands_for_a_point_in_time_lead_to_it() -> None:
    root = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    archive, base = root / "archive", root / "base"
    (block,) = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (command,) = re.findall(r"--archive_command=(.*)", PAGE.read_text())
    settings = {
        **FAST_SETTINGS,
        "archive_mode": "on",
        "archive_command": command.replace("/archive/", f"{archive}/"),
    }
    password = "superuser"
    # The image's data folder is named `docker`, and so is this one.
    cluster = Cluster(
        root / "docker", password=password, run=root / "run", log=root / "log", settings=settings
    )
    try:
        archive.mkdir()
        await cluster.start()
        shutil.chown(archive, (root / "docker").stat().st_uid)
        await shell(
            f"pg_basebackup --username=postgres --pgdata={base} --checkpoint=fast",
            PGHOST=str(cluster.socket_directory),
            PGPASSWORD=password,
        )
        connection = await asyncpg.connect(cluster.dsn("postgres"))
        await connection.execute("CREATE TABLE answers (choice text); INSERT INTO answers VALUES ('before')")
        moment = await connection.fetchval("SELECT clock_timestamp()::text")
        await connection.execute("UPDATE answers SET choice = 'mistake'")
        await connection.execute("SELECT pg_switch_wal()")
        await connection.execute("INSERT INTO answers VALUES ('not archived yet')")
        await connection.close()
        await cluster.stop()
        await shell(
            block.replace("/var/lib/postgresql/18", str(root))
            .replace("/backup/base-20261121", str(base))
            .replace("/archive/", f"{archive}/")
            .replace("2026-11-21 20:44:59+00", moment)
        )
        await cluster.start()
        assert await eventually(lambda: choices_when_paused(cluster), seconds=60) == ["before"]
        connection = await asyncpg.connect(cluster.dsn("postgres"))
        await connection.execute("SELECT pg_wal_replay_resume()")
        await eventually(lambda: connection.fetchval("SELECT NOT pg_is_in_recovery()"), seconds=60)
        await connection.execute("INSERT INTO answers VALUES ('after')")
        await connection.close()
        assert (root / "docker.before" / "PG_VERSION").exists()
    finally:
        await cluster.stop(immediately=True)
        shutil.rmtree(root)


async def choices_when_paused(cluster: Cluster) -> list[str] | None:
    """What the table has once the server has come to the moment; None before."""
    try:
        connection = await asyncpg.connect(cluster.dsn("postgres"))
    except (OSError, asyncpg.PostgresError):
        return None
    try:
        if await connection.fetchval("SELECT pg_is_in_recovery() AND pg_is_wal_replay_paused()"):
            return [row["choice"] for row in await connection.fetch("SELECT choice FROM answers")]
        return None
    finally:
        await connection.close()


async def shell(commands: str, **environment: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", commands),
        env={"PATH": os.pathsep.join([str(find_binaries()), os.environ["PATH"]]), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
