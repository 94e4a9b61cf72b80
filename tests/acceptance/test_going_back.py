"""The previous version serves on a newer schema: today's on tomorrow's, and that of `ec9a803` on today's."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import signal
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from chassis.postgres.migrations import migrate
from homeroom.data_directory import DataDirectory
from homeroom.embedded.clusters import cluster_of
from homeroom.embedded.postgres import Cluster
from homeroom.embedded.provisioning import service_database
from homeroom.keys import DevelopmentKeys
from homeroom.schema import migration_folders
from homeroom.services import STORES
from homeroom.supervisor import Stack
from tests.support.command_line import READY_SECONDS_MAX, STOP_SECONDS_MAX
from tests.support.databases import FAST_SETTINGS
from tests.support.http_client import HttpClient, unique
from tests.support.stack_logs import logged_errors
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "ec9a803"
"""The last commit whose programs refuse every newer schema."""

TOMORROW = {
    "chassis": "ALTER TABLE outbox ADD COLUMN tomorrow text CHECK (length(tomorrow) < 10);",
    "session_service": "ALTER TABLE sessions ADD COLUMN tomorrow text NOT NULL DEFAULT 'unknown';",
    "subscription_service": "ALTER TABLE holds ADD tomorrow text; CREATE INDEX tomorrow ON holds (user_id);",
    "progress_service": "ALTER TABLE session_results ADD COLUMN tomorrow integer NOT NULL DEFAULT 0;",
}


@pytest.fixture(scope="module")
def data() -> Iterator[DataDirectory]:
    """A folder in which today's version has served, and to which tomorrow's migrations have been applied."""
    root = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    yield DataDirectory(root / "data")
    shutil.rmtree(root)


@pytest.fixture(scope="module")
async def sessions(data: DataDirectory) -> list[tuple[str, str]]:
    """The learner and the session of today, completed before tomorrow's migrations came."""
    async with today(data) as http:
        done = [await a_session(http)]
    async with only_postgres(data) as cluster:
        for database, service in STORES.items():
            owner = service_database(cluster, data.secrets(), database=database, service=database).owner
            applied = await migrate(
                owner, folders_of_tomorrow(data.root.parent / "tomorrow", service.package)
            )
            assert [each.name for each in applied] == ["add_tomorrow", "add_tomorrow"]
    return done


@asynccontextmanager
async def today(data: DataDirectory) -> AsyncIterator[HttpClient]:
    """Today's version on this folder; it answers with no 500 and logs no error."""
    shutil.rmtree(data.root / "logs", ignore_errors=True)
    async with Stack(data.root, redis=False, postgres_settings=FAST_SETTINGS) as stack:
        http = HttpClient(base_url=stack.gateway_url, token=stack.token)
        try:
            yield http
        finally:
            await http.close()
        assert logged_errors(stack) == {}


@asynccontextmanager
async def only_postgres(data: DataDirectory) -> AsyncIterator[Cluster]:
    cluster = cluster_of(data, data.secrets(), settings=FAST_SETTINGS)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


def folders_of_tomorrow(copy: Path, package: str) -> dict[str, Path]:
    """The service's migrations, and one more of each component."""
    folders = {}
    for component, folder in migration_folders(package).items():
        folders[component] = copy / package / component
        shutil.copytree(folder, folders[component], ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        number = len(list(folders[component].glob("*.sql"))) + 1
        (folders[component] / f"{number:03d}_add_tomorrow.sql").write_text(TOMORROW[component])
    return folders


async def a_session(http: HttpClient) -> tuple[str, str]:
    """Start, answer and complete, as the acceptance suite does; the learner and the session."""
    user, test = unique("back"), unique("back-test")
    await http.put_account(user)
    await http.put_test(test, questions=2)
    started = await http.start_until_answered(user, test, key="start")
    assert started.status == 201, started.text
    again = await http.start_until_answered(user, test, key="start")
    assert (again.status, again.replayed) == (201, True)
    session = started.body["sessionId"]
    for number in (1, 2):
        answer = await http.send_until_answered(
            "POST",
            f"/v1/sessions/{session}/answers",
            user=user,
            key=f"answer-{number}",
            json={"questionId": f"q{number}", "choice": str(2 * number)},
        )
        assert (answer.status, answer.body["correct"]) == (200, True)
    await http.send_until_answered(
        "POST", f"/v1/sessions/{session}:complete", user=user, key="complete", json={}
    )
    await assert_completed(http, user, session)
    return user, session


async def assert_completed(http: HttpClient, user: str, session: str) -> None:
    read = await http.send_until_answered("GET", f"/v1/sessions/{session}", user=user)
    assert (read.status, read.body["state"], read.body["score"]) == (200, "COMPLETED", 1)

    async def counted() -> bool:
        units = (await http.entitlements(user))["tests"]
        completed = (await http.stats(user))["completedSessions"]
        return (units["held"], units["used"], completed) == (0, 1, 1)

    await eventually(counted, seconds=60)


async def test_todays_version_serves_on_tomorrows_schema(
    data: DataDirectory, sessions: list[tuple[str, str]]
) -> None:
    async with today(data) as http:
        for user, session in sessions:
            await assert_completed(http, user, session)
        sessions.append(await a_session(http))
    for service in STORES.values():
        assert '"newer_schema_accepted"' in data.log(service.package).read_text()


@pytest.fixture(scope="module")
async def before(data: DataDirectory) -> Path:
    """The sources of the commit from before there was a way back."""
    archive = await asyncio.create_subprocess_exec(
        *("git", "-C", str(ROOT), "archive", BEFORE),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    content, complaint = await archive.communicate()
    if archive.returncode != 0:
        pytest.skip(f"the history of this checkout lacks {BEFORE}: {complaint.decode().strip()}")
    source = data.root.parent / "before"
    with tarfile.open(fileobj=io.BytesIO(content)) as files:
        files.extractall(source, filter="data")
    return source


@asynccontextmanager
async def up_before(data: DataDirectory, source: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`homeroom up` of the earlier version."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "homeroom", "up", "--json", "--port", "0", "--no-redis"),
        *("--data", str(data.root)),
        cwd=source,
        env={**environment, "PYTHONPATH": str(source)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.communicate(), STOP_SECONDS_MAX)


def statements() -> list[str]:
    """The statements of the page for operators: the one that sets aside, and the one that puts back."""
    page = (ROOT / "docs/operations/rollback.md").read_text()
    found = re.findall(r"^```sql\n(UPDATE schema_migrations.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(found) == 2
    return found


async def tell_each_owner(data: DataDirectory, statement: str) -> None:
    async with only_postgres(data) as cluster:
        for database in STORES:
            owner = service_database(cluster, data.secrets(), database=database, service=database).owner
            connection = await asyncpg.connect(owner)
            await connection.execute(statement)
            await connection.close()


async def test_the_version_from_before_serves_once_the_newer_migrations_are_set_aside(
    data: DataDirectory, sessions: list[tuple[str, str]], before: Path
) -> None:
    set_aside, put_back = statements()
    async with up_before(data, before) as process:
        _, complaint = await asyncio.wait_for(process.communicate(), READY_SECONDS_MAX)
        assert process.returncode == 1
        assert b"the database is newer than this program" in complaint
    await tell_each_owner(data, set_aside)
    async with up_before(data, before) as process:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), READY_SECONDS_MAX)
        assert line, (await process.communicate())[1].decode()
        ready = json.loads(line)
        http = HttpClient(base_url=ready["gateway_url"], token=DevelopmentKeys(data.keys).token)
        try:
            for user, session in sessions:
                await assert_completed(http, user, session)
            sessions.append(await a_session(http))
        finally:
            await http.close()
    with pytest.raises(RuntimeError, match="was set aside for an older version"):
        async with today(data):
            pass
    await tell_each_owner(data, put_back)
    async with today(data) as http:
        for user, session in sessions:
            await assert_completed(http, user, session)
        await a_session(http)
