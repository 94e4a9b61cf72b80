"""Sweeps, heartbeats, looks for changes and results find their rows through an index."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from bench.scale.plans import WatchedDatabase, explain
from chassis.batch import Item
from chassis.context import Context
from chassis.postgres import Connection, Database
from chassis.rpc.paging import Page
from homeroom.embedded.provisioning import ServiceDatabase
from session_service.domain.changes import SessionPosition
from session_service.domain.ids import SessionId
from session_service.domain.presence import Heartbeat
from session_service.domain.sessions import SessionKey
from session_service.store.editions import EditionCache
from session_service.store.presence import PresenceStore
from session_service.store.results import ResultStore
from session_service.store.session_changes import SessionChangeStore
from session_service.store.sessions import SessionStore
from tests.session.world import TIMES

SESSIONS = 100_000
# Enough for the server to keep a plan of each prepared statement that is good for any arguments.
ROUNDS = 8

# Each learner has a hundred sessions, one of them live. Half of those have a deadline, and a quarter a lease.
POPULATE = """
    INSERT INTO sessions (user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                          difficulty, total, answered, answers_given, started_at, deadline_at, closed_at,
                          close_reason, seen_at, lease_check_at)
    SELECT 'learner-' || n / 100, gen_random_uuid(), gen_random_uuid(), 'test', 1, n % 100 + 1,
           CASE WHEN n % 100 < 1 THEN 'active' ELSE 'expired' END, 'A test', 'practice', '', 3, 0, 0,
           now() - interval '2 days', CASE WHEN n % 200 < 100 THEN now() - interval '1 day' END,
           CASE WHEN n % 100 >= 1 THEN now() - interval '1 day' END,
           CASE WHEN n % 100 >= 1 THEN 'timed_out' END,
           CASE WHEN n % 400 < 100 THEN now() - interval '1 day' END,
           CASE WHEN n % 400 < 100 THEN now() - interval '1 hour' END
      FROM generate_series(1, $1::integer) AS n
"""


# Each learner has two ended sessions of one test: the first learners of one, all others of a second one.
POPULATE_ENDED = """
    INSERT INTO sessions (user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                          difficulty, total, answered, answers_given, started_at, closed_at, close_reason,
                          last_answer_at)
    SELECT 'learner-' || lpad((n / 2)::text, 6, '0'), gen_random_uuid(), gen_random_uuid(),
           CASE WHEN n < $2::integer THEN 'asked' ELSE 'another' END, 1, n % 2 + 1, 'expired', 'A test',
           'practice', '', 3, 1, 1, now() - interval '2 days', now() - interval '1 day', 'timed_out',
           now() - interval '1 day'
      FROM generate_series(0, $1::integer - 1) AS n
"""

# Every session is live, and nothing is due.
POPULATE_LIVE = """
    INSERT INTO sessions (user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                          difficulty, total, started_at, deadline_at, seen_at, lease_check_at)
    SELECT 'learner-' || n, gen_random_uuid(), gen_random_uuid(), 'test', 1, 1, 'active', 'A test',
           'practice', '', 3, now(), CASE WHEN n % 2 = 0 THEN now() + n * interval '1 hour' END, now(),
           now() + n * interval '1 hour'
      FROM generate_series(1, $1::integer) AS n
"""


@pytest.fixture
async def truth(session_database: ServiceDatabase) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(session_database.superuser)
    yield connection
    await connection.close()


async def test_no_sweep_and_no_heartbeat_reads_the_whole_table(
    session_database: ServiceDatabase, truth: Connection
) -> None:
    await truth.execute(POPULATE, SESSIONS)
    await truth.execute("VACUUM (ANALYZE) sessions")
    rows = await truth.fetch("SELECT user_id, session_id FROM sessions WHERE state = 'active' LIMIT 32")
    keys = [SessionKey(row["user_id"], SessionId(row["session_id"])) for row in rows]
    database = await WatchedDatabase.connect(session_database.service, maximum=1)
    assert isinstance(database, WatchedDatabase)
    try:
        store = SessionStore(database=database, editions=EditionCache(), grace=TIMES.grace)
        presence = PresenceStore(database=database, times=TIMES)
        changes = SessionChangeStore(database=database, grace=TIMES.grace)
        positions = [SessionPosition(key.user_id, None, {key.session_id: 1}) for key in keys]
        deadline = float("inf")
        for number in range(1, ROUNDS + 1):
            beats = {key: Heartbeat(key.session_id, number, visible=True) for key in keys}
            assert len(await presence.record_heartbeats(beats, wait=False, deadline=deadline)) == len(keys)
            assert len(await presence.leave_sessions(keys, wait=False, deadline=deadline)) == len(keys)
            await presence.renew_leases(keys, deadline=deadline)
            assert len(await changes.read_changes(positions, deadline=deadline)) == len(keys)
            assert len(await store.list_overdue(None, 200, deadline=deadline)) == 200
            assert len(await store.list_leases(None, 200, deadline=deadline)) > 100
            assert len(await store.list_idle(timedelta(hours=1), None, 200, deadline=deadline)) == 200
        plans = await explain(database)
    finally:
        await database.close()
    assert len(plans) == 7
    whole = [name for name, plan in plans.items() if any("Seq Scan on sessions" in line for line in plan)]
    assert whole == []
    used = {index for index in ("sessions_overdue", "sessions_leased", "sessions_untimed", "sessions_once")
            if any(f"using {index} " in line for plan in plans.values() for line in plan)}  # fmt: skip
    assert used == {"sessions_overdue", "sessions_leased", "sessions_untimed", "sessions_once"}


async def test_a_sweep_that_finds_nothing_is_not_planned_each_time(
    session_database: ServiceDatabase, truth: Connection
) -> None:
    await truth.execute(POPULATE_LIVE, SESSIONS // 2)
    await truth.execute("VACUUM (ANALYZE) sessions")
    database = await Database.connect(session_database.service, maximum=1)
    try:
        store = SessionStore(database=database, editions=EditionCache(), grace=TIMES.grace)
        deadline = float("inf")
        for _ in range(ROUNDS + 4):
            assert await store.list_overdue(None, 200, deadline=deadline) == []
            assert await store.list_leases(None, 200, deadline=deadline) == []
            assert await store.list_idle(timedelta(hours=1), None, 200, deadline=deadline) == []
        plans = await database.read(
            lambda connection: connection.fetch(
                "SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE $1",
                "%FROM sessions%",
            ),
            deadline=deadline,
        )
    finally:
        await database.close()
    # The server plans each statement five times before it compares the general plan with the others.
    assert [row["generic_plans"] for row in plans] == [ROUNDS - 1] * 3


_READER = Context(
    method="/homeroom.session.v1.SupervisionService/ListTestResults",
    user_id="admin",
    roles=frozenset({"admin"}),
    idempotency_key="",
    request_id="",
    deadline=float("inf"),
    traceparent="",
)


@pytest.mark.parametrize("asked", [SESSIONS, SESSIONS // 10, 40])
async def test_the_results_of_a_test_are_not_planned_each_time(
    session_database: ServiceDatabase, truth: Connection, asked: int
) -> None:
    await truth.execute(POPULATE_ENDED, SESSIONS, asked)
    await truth.execute("VACUUM (ANALYZE) sessions")
    database = await WatchedDatabase.connect(session_database.service, maximum=1)
    assert isinstance(database, WatchedDatabase)
    try:
        store = ResultStore(database=database)
        for number in range(ROUNDS + 4):
            item = Item(_READER, "asked")
            limit = (11, 51, 501)[number % 3]
            results = await store.list_results(item, Page(None, limit))
            assert results is not None
            assert [result.attempts for result in results] == [2] * min(limit, asked // 2)
        (kept,) = await database.read(
            lambda connection: connection.fetch(
                "SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE $1",
                "%FROM sessions%",
            ),
            deadline=float("inf"),
        )
        plans = await explain(database)
    finally:
        await database.close()
    assert kept["generic_plans"] == ROUNDS - 1
    (plan,) = [lines for name, lines in plans.items() if "attempts" in name]
    assert any("using sessions_ended_of_test " in line for line in plan), "\n".join(plan)
