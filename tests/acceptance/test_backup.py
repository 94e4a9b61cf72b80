"""`homeroom backup` and `homeroom restore` on a stack that serves, and what is left when they are killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from homeroom.backups.reading import rows_of_tables
from homeroom.data_directory import DataDirectory
from homeroom.embedded.clusters import cluster_of
from homeroom.embedded.process import holder
from homeroom.services import STORES
from homeroom.supervisor import Stack
from tests.acceptance.test_lessons import put_course
from tests.progress.diagnostics import read_discrepancies as read_progress_discrepancies
from tests.subscription.diagnostics import read_discrepancies as read_subscription_discrepancies
from tests.support.command_line import ROOT, run, start
from tests.support.databases import FAST_SETTINGS
from tests.support.http_client import HttpClient, unique
from tests.support.rehearsal import (
    Disagreement,
    Writers,
    command,
    eventually_serves,
    lose,
    outboxes_are_empty,
    read_disagreements,
    rehearse,
)
from tests.support.waiting import eventually

pytestmark = [pytest.mark.timeout(600), pytest.mark.fault]

HOLD_AGE_SECONDS = 3
STALE_SECONDS = 60
WRONG_COUNTERS = """
    SELECT user_id, session_id
      FROM sessions AS session
     CROSS JOIN LATERAL (
           SELECT count(*) AS given, count(*) FILTER (WHERE correct) AS correct,
                  count(DISTINCT question_id) AS answered
             FROM answers
            WHERE answers.user_id = session.user_id AND answers.session_id = session.session_id) AS counted
     WHERE (session.answers_given, session.answers_correct, session.answered)
           <> (counted.given, counted.correct, counted.answered)
"""


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    root = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    env = {
        "HOMEROOM_JANITOR_HOLD_AGE_SECONDS": str(HOLD_AGE_SECONDS),
        "HOMEROOM_JANITOR_INTERVAL_SECONDS": "0.5",
        "HOMEROOM_CACHE_STALE_SECONDS": str(STALE_SECONDS),
    }
    async with Stack(root / "data", env=env, postgres_settings=FAST_SETTINGS) as running:
        yield running
    shutil.rmtree(root)


@pytest.fixture(scope="module")
async def http(stack: Stack) -> AsyncIterator[HttpClient]:
    client = HttpClient(base_url=stack.gateway_url, token=stack.token)
    yield client
    await client.close()
    assert client.statuses[500] == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for a backup."""
    parent = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    yield parent / "backup"
    shutil.rmtree(parent)


@asynccontextmanager
async def restored_elsewhere(folder: Path) -> AsyncIterator[dict[str, asyncpg.Connection]]:
    """The databases of the backup, restored by the command into a data folder of another machine."""
    data = DataDirectory(folder.parent / "elsewhere")
    finished = await run("restore", str(folder), "--data", str(data.root))
    assert finished.code == 0, finished.stderr
    cluster = cluster_of(data, data.secrets())
    await cluster.start()
    try:
        connections = {name: await asyncpg.connect(cluster.dsn(name)) for name in STORES}
        yield connections
        for connection in connections.values():
            await connection.close()
    finally:
        await cluster.stop()


async def test_a_backup_under_load_is_consistent_in_each_database(
    stack: Stack, http: HttpClient, folder: Path
) -> None:
    writers = Writers(http)
    await writers.prepare()
    async with writers.at_work():
        await writers.until(10)
        confirmed = set(writers.confirmed.started)
        made = (await command("backup", str(folder), stack)).json
        await writers.until(5)
    moments = [dump["snapshot_at"] for dump in made["dumps"].values()]
    assert list(made["dumps"]) == ["session", "progress", "subscription"]
    assert moments == sorted(moments)
    assert json.loads((folder / "manifest.json").read_text()) == made
    async with restored_elsewhere(folder) as databases:
        session = databases["session"]
        assert await session.fetch(WRONG_COUNTERS) == []
        found = {
            str(row["session_id"]) for row in await session.fetch("SELECT session_id::text FROM sessions")
        }
        assert confirmed <= found
        for name, dump in made["dumps"].items():
            rows = await rows_of_tables(databases[name])
            assert rows | {"hold_watermarks": 0} == dump["rows"] | {"hold_watermarks": 0}
        assert await read_progress_discrepancies(databases["progress"]) == []
        assert await read_subscription_discrepancies(databases["subscription"]) == []


async def test_a_lost_database_comes_back_and_the_stack_serves(
    stack: Stack, http: HttpClient, folder: Path
) -> None:
    user, test = unique("loser"), unique("lost")
    await http.put_account(user)
    await http.put_test(test, questions=1)
    before = await http.start(user, test, key="start")
    await command("backup", str(folder), stack)
    await lose(stack, "session")
    (restored,) = (await command("restore", str(folder), stack, "--service", "session")).json["restored"]
    assert (restored["service"], restored["kept"]) == ("session_service", None)
    again = await http.start_until_answered(user, test, key="start")
    assert (again.status, again.replayed, again.body) == (201, True, before.body)
    await eventually_serves(http)


async def test_a_restore_while_learners_write_loses_what_came_after_the_backup_and_nothing_else(
    stack: Stack, http: HttpClient, folder: Path
) -> None:
    writers = Writers(http)
    await writers.prepare()
    async with writers.at_work():
        await writers.until(5)
        await command("backup", str(folder), stack)
        await writers.until(5)
        restored = await command("restore", str(folder), stack)
        mark = set(writers.confirmed.started)
        await writers.until(5)
    confirmed_since = set(writers.confirmed.started) - mark
    kept = {each["database"]: each["kept"] for each in restored.json["restored"]}
    now = await sessions_in(stack, "session")
    old = await sessions_in(stack, kept["session"])
    assert confirmed_since <= now
    # Each confirmed session is in the database that was in use then, the old one or the new one.
    assert set(writers.confirmed.started) <= now | old
    assert await holders_of_names(stack) == []


async def sessions_in(stack: Stack, database: str) -> set[str]:
    connection = await asyncpg.connect(stack.dsn(database))
    try:
        return {row["id"] for row in await connection.fetch("SELECT session_id::text AS id FROM sessions")}
    finally:
        await connection.close()


async def holders_of_names(stack: Stack) -> list[str]:
    """Databases into which a restore was under way."""
    connection = await asyncpg.connect(stack.dsn("postgres"))
    try:
        rows = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE '%_restoring'")
        return [row["datname"] for row in rows]
    finally:
        await connection.close()


async def test_the_cache_does_not_tell_a_future_that_was_lost(
    stack: Stack, http: HttpClient, folder: Path
) -> None:
    if stack.redis_url is None:
        pytest.skip("there is no Redis on this machine")
    user = unique("learner")
    await http.put_account(user)
    course, (first, second, _) = await put_course(http)

    async def post(path: str, key: str) -> Any:
        return (await http.send_until_answered("POST", path, user=user, json={}, key=key)).body

    async def access(path: str) -> Any:
        return (await http.send_until_answered("GET", f"{path}/access", user=user)).body

    await post(f"/v1/courses/{course}/enrollment", "enroll")
    await command("backup", str(folder), stack)
    done = await post(f"{first}:complete", "first")
    assert done["cacheUpdated"]
    assert (await access(second))["accessible"]
    assert (await access(second))["source"] == "CACHE"
    await command("restore", str(folder), stack, "--service", "progress")
    # A process that does not know the database's time yet believes no value; this read teaches it.
    stranger = unique("learner")
    await http.send_until_answered("GET", f"{first}/access", user=stranger)
    assert not (await access(second))["accessible"]
    await post(f"/v1/courses/{course}/enrollment", "enroll-again")
    again = await post(f"{first}:complete", "first-again")
    assert again["cacheUpdated"]
    assert again["version"] <= done["version"]
    cached = await access(second)
    assert (cached["accessible"], cached["version"]) == (True, again["version"])


@asynccontextmanager
async def blocked_dump(stack: Stack) -> AsyncIterator[None]:
    """`pg_dump` of progress waits: a table that is not counted is locked."""
    connection = await asyncpg.connect(stack.dsn("progress"))
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE import_rows IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def test_a_killed_backup_is_no_backup_and_the_next_one_takes_its_place(
    stack: Stack, folder: Path
) -> None:
    lock = stack.data.lock("pg_dump-progress")
    async with blocked_dump(stack):
        process = await start("backup", str(folder), "--data", str(stack.data_dir))
        await eventually((folder / ".unfinished" / "progress.dump").exists, seconds=60)
        await eventually(lambda: holder(lock) is not None)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        await eventually(lambda: holder(lock) is None)  # the kernel has told pg_dump
    assert [path.name for path in folder.iterdir()] == [".unfinished"]
    refused = await run("restore", str(folder), "--data", str(stack.data_dir))
    assert refused.code == 1
    assert "holds no finished backup" in refused.stderr
    await command("backup", str(folder), stack)
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "progress.dump",
        "session.dump",
        "subscription.dump",
    ]


async def test_a_stopped_backup_leaves_nothing(stack: Stack, folder: Path) -> None:
    async with blocked_dump(stack):
        process = await start("backup", str(folder), "--data", str(stack.data_dir))
        await eventually((folder / ".unfinished" / "progress.dump").exists, seconds=60)
        process.send_signal(signal.SIGTERM)
        _, complaint = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert b"stopped before the end" in complaint
    assert not folder.exists()


async def test_a_disk_that_takes_no_more_leaves_nothing(stack: Stack, folder: Path) -> None:
    finished = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'ulimit -f 16; exec "$@"', "sh"),
        *(sys.executable, "-m", "homeroom", "backup", str(folder), "--data", str(stack.data_dir)),
        cwd=ROOT,
        env={**os.environ, "HOMEROOM_MODE": ""},
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await asyncio.wait_for(finished.communicate(), 120)
    assert finished.returncode == 1, complaint
    assert b"error:" in complaint
    assert b"File too large" in complaint, complaint
    assert not folder.exists()


@pytest.mark.parametrize("line", ["progress_service: .* restored", "the janitor will look"])
async def test_a_killed_restore_leaves_the_databases_in_use_as_they_were(
    stack: Stack, http: HttpClient, folder: Path, line: str
) -> None:
    await command("backup", str(folder), stack)
    user = unique("later")
    await http.put_account(user)
    before = await kept_in(stack)
    process = await start("restore", str(folder), "--data", str(stack.data_dir))
    await until_said(process, line)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    await stack.wait_ready()
    swapped = len(await kept_in(stack)) - len(before)
    assert swapped in {0, 3}, "all databases are exchanged, or none is"
    if line != "the janitor will look":  # the last line before the exchange
        assert swapped == 0
    known = await http.send_until_answered("GET", "/v1/accounts/me", user=user)
    assert known.status == (404 if swapped else 200)
    await command("restore", str(folder), stack)
    assert await holders_of_names(stack) == []


async def kept_in(stack: Stack) -> list[str]:
    finished = await run("discard", "--data", str(stack.data_dir))
    assert finished.code == 0, finished.stderr
    return finished.stdout.split()


async def until_said(process: asyncio.subprocess.Process, wanted: str) -> None:
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(120):
        while line := (await process.stderr.readline()).decode():
            said += line
            if wanted.rpartition("*")[2] in line:
                return
    raise AssertionError(said)


async def test_one_restore_at_a_time(stack: Stack, folder: Path) -> None:
    await command("backup", str(folder), stack)
    with stack.data.holding(["subscription_service"]):
        refused = await run("restore", str(folder), "--data", str(stack.data_dir))
    assert refused.code == 1
    assert "subscription_service is being restored by another command already" in refused.stderr
    await stack.wait_ready()


async def test_a_kept_database_is_dropped_by_its_name(stack: Stack, folder: Path) -> None:
    await command("backup", str(folder), stack, "--service", "progress")
    restored = await run("restore", str(folder), "--data", str(stack.data_dir), "--service", "progress")
    assert restored.code == 0, restored.stderr
    (name,) = [word for word in restored.stdout.split() if word.startswith("progress_before_")][:1]
    assert f"homeroom discard {name.rstrip('.')}" in restored.stdout
    refused = await run("discard", "session", "--data", str(stack.data_dir))
    assert refused.code == 1
    dropped = await run("discard", name.rstrip("."), "--data", str(stack.data_dir))
    assert dropped.code == 0, dropped.stderr
    assert name not in await kept_in(stack)


@pytest.mark.parametrize("command_name", ["backup", "discard"])
async def test_without_a_stack_there_is_one_clear_sentence(folder: Path, command_name: str) -> None:
    finished = await run(command_name, str(folder), "--data", str(folder.parent / "nothing"))
    assert finished.code == 1
    assert "no stack runs on" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not folder.exists()


@pytest.mark.parametrize(
    ("lost", "kinds"),
    [
        (
            "session",
            {
                "result_without_session",
                "committed_hold_without_session",
                "live_session_without_open_hold",
            },
        ),
        pytest.param("progress", {"result_not_counted"}, marks=pytest.mark.nightly),
        pytest.param(
            "subscription",
            {
                "session_without_account",
                "spent_session_without_committed_hold",
                "live_session_without_open_hold",
            },
            marks=pytest.mark.nightly,
        ),
    ],
)
async def test_after_a_restore_only_what_the_page_names_disagrees(
    stack: Stack, http: HttpClient, folder: Path, lost: str, kinds: set[str]
) -> None:
    before = set(await read_disagreements(stack))
    found = [each for each in await rehearse(stack, http, folder, lost=lost) if each not in before]
    assert {each.kind for each in found} <= kinds
    assert found, "something was lost, and nothing disagrees"
    if lost == "session":
        await complete_again(stack, http, [each for each in found if each.kind.startswith("live_session")])


async def complete_again(stack: Stack, http: HttpClient, live_again: Sequence[Disagreement]) -> None:
    """A session that was completed, and is live again: completing it again counts nothing twice."""
    assert live_again
    for each in live_again[:5]:
        path = f"/v1/sessions/{each.about}"
        body = {"questionId": "q1", "choice": "2"}
        await http.send("POST", f"{path}/answers", user=each.user_id, json=body, key=unique("again"))
        done = await http.send("POST", f"{path}:complete", user=each.user_id, json={}, key=unique("again"))
        assert (done.status, done.body["state"]) == (200, "COMPLETED")
    await eventually(lambda: outboxes_are_empty(stack), seconds=30)
    for each in live_again[:5]:
        assert (await http.stats(each.user_id))["completedSessions"] == 1
        assert (await http.entitlements(each.user_id))["tests"]["used"] == 1
    connection = await asyncpg.connect(stack.dsn("session"))
    try:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0, "an event was parked"
    finally:
        await connection.close()
