"""What the database does with work: commit it, roll it back, run it again, or say what was refused."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import orjson
import pytest

from chassis.errors import Reason, ServiceError
from chassis.postgres import (
    Connection,
    ConstraintViolation,
    Database,
    DatabaseUnavailable,
    InvalidValue,
    LockTimeout,
    ViolationKind,
)
from chassis.telemetry.tracing import Tracing
from tests.support.notes import INSERT, insert, one, soon, written
from tests.support.postgres_proxy import PostgresProxy
from tests.support.waiting import eventually


async def test_a_write_is_committed_before_it_returns(database: Database, admin: Connection) -> None:
    assert await database.write(insert("ann"), deadline=soon()) == "ann"
    assert await written(admin, "ann")


async def test_a_statement_of_its_own_returns_its_rows(database: Database, admin: Connection) -> None:
    rows = await database.execute_write(INSERT, "ann", deadline=soon())
    assert [row["user_id"] for row in rows] == ["ann"]
    assert await written(admin, "ann")


async def test_begin_and_its_limits_are_one_message_and_nothing_is_reset_afterwards(
    proxied: Database, proxy: PostgresProxy
) -> None:
    await proxied.write(insert("warm"), deadline=soon())  # prepares the statement
    before = len(proxy.client_messages)
    await proxied.write(insert("ann"), deadline=soon())
    await proxied.read(one, deadline=soon())
    begin, _insert, commit, *_select = proxy.client_messages[before:]
    assert b"BEGIN; SET LOCAL lock_timeout = 250; SET LOCAL statement_timeout = " in begin
    assert b"COMMIT" in commit
    assert not any(b"RESET" in message for message in proxy.client_messages)


async def test_the_limits_of_a_transaction_end_with_it(database: Database) -> None:
    async def limits(connection: Connection) -> list[str]:
        return [
            await connection.fetchval(f"SHOW {name}")
            for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        ]

    inside = await database.write(limits, deadline=soon(), lock_timeout_ms=77)
    assert inside[0] == "77ms"
    assert "0" not in inside
    assert await database.read(limits, deadline=soon()) == ["0", "0", "0"]


async def test_what_the_work_raises_rolls_back_and_comes_out(database: Database, admin: Connection) -> None:
    async def work(connection: Connection) -> None:
        await connection.fetchval(INSERT, "ann")
        raise ServiceError(Reason.LESSON_LOCKED)

    with pytest.raises(ServiceError) as caught:
        await database.write(work, deadline=soon())
    assert caught.value.reason is Reason.LESSON_LOCKED
    assert not await written(admin, "ann")
    assert database.pool_idle == database.pool_size == 1


async def test_work_that_goes_on_after_a_failed_statement_is_not_reported_as_committed(
    database: Database,
) -> None:
    async def work(connection: Connection) -> str:
        try:
            await connection.execute("SELECT 1 / 0")
        except asyncpg.DivisionByZeroError:
            return "all is well"
        raise AssertionError

    with pytest.raises(RuntimeError, match="nothing was committed"):
        await database.write(work, deadline=soon())


async def test_a_cancelled_caller_leaves_and_the_transaction_commits(
    database: Database, admin: Connection
) -> None:
    inserted, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: Connection) -> None:
        await connection.fetchval(INSERT, "ann")
        inserted.set()
        await go_on.wait()

    caller = asyncio.create_task(database.write(work, deadline=soon()))
    await inserted.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not await written(admin, "ann")
    go_on.set()
    await database.close()
    assert await written(admin, "ann")


async def test_a_failure_that_nobody_waits_for_any_more_is_not_reported_as_forgotten(
    database: Database,
) -> None:
    forgotten: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: forgotten.append(context))
    began, go_on = asyncio.Event(), asyncio.Event()

    async def work(_connection: Connection) -> None:
        began.set()
        await go_on.wait()
        raise ServiceError(Reason.LESSON_LOCKED)

    try:
        caller = asyncio.create_task(database.write(work, deadline=soon()))
        await began.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        go_on.set()
        await database.close()
        gc.collect()
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert forgotten == []


async def test_a_cancelled_caller_does_not_stop_a_statement_of_its_own(
    database: Database, admin: Connection
) -> None:
    await admin.execute("BEGIN; LOCK TABLE notes IN EXCLUSIVE MODE")
    caller = asyncio.create_task(database.execute_write(INSERT, "ann", deadline=soon()))
    # Not pg_stat_activity, which shows one and the same picture throughout a transaction.
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'notes'::regclass AND NOT granted"
    await eventually(lambda: admin.fetchval(waiting))
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await admin.execute("COMMIT")
    await database.close()
    assert await written(admin, "ann")


async def test_work_past_its_deadline_is_rolled_back_and_its_connection_used_again(
    database: Database, admin: Connection
) -> None:
    async def work(connection: Connection) -> None:
        await connection.fetchval(INSERT, "ann")
        await connection.execute("SELECT pg_sleep(60)")

    with pytest.raises(ServiceError) as caught:
        await database.write(work, deadline=soon(0.3))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert not await written(admin, "ann")
    assert await database.write(one, deadline=soon()) == 1
    assert database.pool_size == 1


async def test_a_read_past_its_deadline_is_told_so(database: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(60)")

    with pytest.raises(ServiceError) as caught:
        await database.read(work, deadline=soon(0.2))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert await database.read(one, deadline=soon()) == 1


async def test_nothing_is_begun_after_the_deadline(database: Database) -> None:
    async def work(connection: Connection) -> None:
        raise AssertionError("it must not run")

    for attempt in (database.read(work, deadline=soon(-1)), database.write(work, deadline=soon(-1))):
        with pytest.raises(ServiceError) as caught:
            await attempt
        assert caught.value.reason is Reason.DEADLINE_EXCEEDED


async def test_a_pair_that_deadlocks_is_run_again_and_both_succeed(
    database: Database, admin: Connection
) -> None:
    both_hold_one = asyncio.Barrier(2)
    runs = 0

    def add_star(first: str, second: str) -> Callable[[Connection], Awaitable[None]]:
        met = False

        async def work(connection: Connection) -> None:
            nonlocal met, runs
            runs += 1
            await connection.execute("UPDATE notes SET stars = stars + 1 WHERE user_id = $1", first)
            if not met:
                met = True
                await both_hold_one.wait()
            await connection.execute("UPDATE notes SET stars = stars + 1 WHERE user_id = $1", second)

        return work

    await asyncio.gather(
        database.write(add_star("locked-1", "locked-2"), deadline=soon(9), lock_timeout_ms=8000),
        database.write(add_star("locked-2", "locked-1"), deadline=soon(9), lock_timeout_ms=8000),
    )
    assert runs == 3
    stars = await admin.fetch("SELECT stars FROM notes WHERE user_id LIKE 'locked-%'")
    assert [row["stars"] for row in stars] == [2, 2]


async def test_work_that_keeps_losing_is_given_up_after_three_runs(database: Database) -> None:
    runs = 0

    async def work(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        await connection.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")

    with pytest.raises(DatabaseUnavailable):
        await database.write(work, deadline=soon())
    assert runs == 3
    with pytest.raises(DatabaseUnavailable):
        await database.execute_write(
            "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$", deadline=soon()
        )


async def test_a_row_that_stays_locked_is_a_lock_timeout(database: Database, admin: Connection) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE notes SET stars = 1 WHERE user_id = 'locked-1'")

    async with admin.transaction():
        await admin.execute("SELECT FROM notes WHERE user_id = 'locked-1' FOR UPDATE")
        with pytest.raises(LockTimeout):
            await database.write(work, deadline=soon(), lock_timeout_ms=50)
    await database.write(work, deadline=soon(), lock_timeout_ms=50)


async def test_a_lock_timeout_of_zero_is_refused_because_it_would_mean_forever(database: Database) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        await database.write(one, deadline=soon(), lock_timeout_ms=0)


@pytest.mark.parametrize(
    ("sql", "constraint", "kind"),
    [
        ("INSERT INTO notes (user_id) VALUES ('locked-1')", "notes_once", ViolationKind.UNIQUE),
        (
            "INSERT INTO notes (user_id, stars) VALUES ('x', 6)",
            "notes_stars_at_most_five",
            ViolationKind.CHECK,
        ),
        (
            "INSERT INTO notes (user_id, course_id) VALUES ('x', 'nowhere')",
            "notes_course_exists",
            ViolationKind.FOREIGN_KEY,
        ),
        (
            "INSERT INTO notes (user_id, stars) VALUES ('x', NULL)",
            "notes_stars_not_null",
            ViolationKind.NOT_NULL,
        ),
        (
            "INSERT INTO notes (user_id, seat) VALUES ('x', '[1,3)'), ('y', '[2,4)')",
            "notes_seats_apart",
            ViolationKind.EXCLUSION,
        ),
    ],
)
async def test_a_constraint_that_says_no_is_named(
    database: Database, sql: str, constraint: str, kind: ViolationKind
) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute(sql)

    for attempt in (
        database.write(work, deadline=soon()),
        database.read(work, deadline=soon()),
        database.execute_write(sql, deadline=soon()),
    ):
        with pytest.raises(ConstraintViolation) as caught:
            await attempt
        assert (caught.value.constraint, caught.value.kind) == (constraint, kind)
    assert database.pool_size == 1


@pytest.mark.parametrize(
    ("sql", "stars"),
    [
        ("INSERT INTO notes (user_id, stars) VALUES ('ann', $1::text::int)", "3000000000"),
        ("INSERT INTO notes (user_id, stars) VALUES ('ann', $1)", 3_000_000_000),
    ],
    ids=["by the server", "by the driver"],
)
async def test_a_value_that_does_not_fit_is_an_invalid_value(
    database: Database, sql: str, stars: object
) -> None:
    with pytest.raises(InvalidValue):
        await database.execute_write(sql, stars, deadline=soon())
    with pytest.raises(InvalidValue):
        await database.execute_write(INSERT, "nul\0", deadline=soon())


async def test_statements_of_a_sampled_request_are_spans_named_by_the_caller(
    database: Database, tmp_path: Path
) -> None:
    spans = tmp_path / "spans.jsonl"
    tracing = Tracing(service="test", version="1", sample_ratio=1.0, trace_file=spans)
    request = tracing.begin("StartSession", traceparent="")
    with request, tracing.batch([request]):
        await database.write(insert("ann"), deadline=soon(), name="insert_note")
        await database.read(one, deadline=soon(), name="select_one")
        await database.execute_write(INSERT, "bob", deadline=soon(), name="insert_one_note")
    await database.write(insert("eve"), deadline=soon(), name="unsampled")
    await tracing.close()
    names = [orjson.loads(line)["name"] for line in spans.read_bytes().splitlines()]
    assert names == ["insert_note", "select_one", "insert_one_note", "StartSession"]


async def test_work_survives_a_migration_that_changes_the_type_of_what_it_reads(
    database: Database, admin: Connection
) -> None:
    async def work(connection: Connection) -> list[int]:
        rows = await connection.fetch("SELECT stars FROM notes")
        return [row["stars"] for row in rows]

    before = await database.write(work, deadline=soon())
    await admin.execute("ALTER TABLE notes ALTER COLUMN stars TYPE bigint")
    assert await database.write(work, deadline=soon()) == before == [0, 0]
