"""The database tells the truth about every write, whatever is lost, locked, cancelled or refused."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

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
    OutcomeUnknown,
    ViolationKind,
)
from chassis.tracing import Tracing
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.postgres_proxy import Loss, PostgresProxy

TABLES = """
    CREATE TABLE courses (course_id text CONSTRAINT courses_pkey PRIMARY KEY);
    CREATE TABLE notes (
        user_id text NOT NULL,
        body text,
        stars integer NOT NULL DEFAULT 0,
        course_id text,
        seat int4range,
        CONSTRAINT notes_once PRIMARY KEY (user_id),
        CONSTRAINT notes_stars_at_most_five CHECK (stars <= 5),
        CONSTRAINT notes_course_exists FOREIGN KEY (course_id) REFERENCES courses,
        CONSTRAINT notes_seats_apart EXCLUDE USING gist (seat WITH &&)
    );
    INSERT INTO notes (user_id) SELECT 'locked-' || n FROM generate_series(1, 2) AS n;
"""
INSERT = "INSERT INTO notes (user_id, body) VALUES ($1, 'hello') RETURNING user_id"


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < give_up_at, "it never came true"
        await asyncio.sleep(0.01)


@pytest.fixture
async def admin(empty_database: ServiceDatabase) -> AsyncIterator[Connection]:
    """A connection beside the pool, for looking at the truth and for doing harm."""
    connection = await asyncpg.connect(empty_database.superuser)
    await connection.execute(TABLES)
    await connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")
    yield connection
    await connection.close()


@asynccontextmanager
async def opened(dsn: str, **settings: int) -> AsyncIterator[Database]:
    database = await Database.connect(dsn, application_name="under test", **settings)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def database(empty_database: ServiceDatabase, admin: Connection) -> AsyncIterator[Database]:
    async with opened(empty_database.service, minimum=1, maximum=4) as database:
        yield database


@pytest.fixture
async def proxy(empty_database: ServiceDatabase, admin: Connection) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(empty_database.service).running() as proxy:
        yield proxy


@pytest.fixture
async def proxied(proxy: PostgresProxy) -> AsyncIterator[Database]:
    async with opened(proxy.dsn, minimum=1, maximum=4) as database:
        yield database


async def written(admin: Connection, user_id: str) -> bool:
    return bool(await admin.fetchval("SELECT count(*) FROM notes WHERE user_id = $1", user_id))


async def terminate_backends(admin: Connection) -> int:
    rows = await admin.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'under test'"
    )
    return len(rows)


def insert(user_id: str) -> Callable[[Connection], Awaitable[Any]]:
    async def work(connection: Connection) -> Any:
        return await connection.fetchval(INSERT, user_id)

    return work


async def one(connection: Connection) -> Any:
    return await connection.fetchval("SELECT 1")


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


async def test_a_cancelled_caller_does_not_stop_a_statement_of_its_own(
    database: Database, admin: Connection
) -> None:
    await admin.execute("BEGIN; LOCK TABLE notes IN EXCLUSIVE MODE")
    caller = asyncio.create_task(database.execute_write(INSERT, "ann", deadline=soon()))
    waiting = (
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'"
    )
    await eventually(lambda: admin.fetchval(waiting))
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await admin.execute("COMMIT")
    await database.close()
    assert await written(admin, "ann")


async def test_a_read_survives_the_loss_of_its_connection_once(database: Database, admin: Connection) -> None:
    runs = 0

    async def work(connection: Connection) -> Any:
        nonlocal runs
        runs += 1
        if runs == 1:
            assert await terminate_backends(admin) == 1
        return await connection.fetchval("SELECT 42")

    assert await database.read(work, deadline=soon()) == 42
    assert runs == 2


async def test_a_read_gives_up_when_its_connection_is_lost_twice(
    database: Database, admin: Connection
) -> None:
    async def work(connection: Connection) -> Any:
        await terminate_backends(admin)
        return await one(connection)

    with pytest.raises(DatabaseUnavailable):
        await database.read(work, deadline=soon())
    assert await database.read(one, deadline=soon()) == 1


async def test_a_connection_lost_before_the_commit_means_that_nothing_was_written(
    database: Database, admin: Connection
) -> None:
    async def work(connection: Connection) -> None:
        await connection.fetchval(INSERT, "ann")
        await terminate_backends(admin)
        await one(connection)

    with pytest.raises(DatabaseUnavailable):
        await database.write(work, deadline=soon())
    assert not await written(admin, "ann")


async def test_a_connection_that_is_known_to_be_gone_when_the_commit_is_due_means_nothing_was_written(
    database: Database, admin: Connection
) -> None:
    async def work(connection: Connection) -> None:
        await connection.fetchval(INSERT, "ann")
        await terminate_backends(admin)

        async def noticed() -> bool:
            return connection.is_closed()

        await eventually(noticed)

    with pytest.raises(DatabaseUnavailable):
        await database.write(work, deadline=soon())
    assert not await written(admin, "ann")


async def test_connections_that_died_while_idle_are_replaced_unnoticed(
    database: Database, admin: Connection
) -> None:
    await database.write(insert("ann"), deadline=soon())
    assert await terminate_backends(admin) == 1
    await database.write(insert("bob"), deadline=soon())
    assert await written(admin, "bob")


async def test_an_idle_connection_that_dies_as_the_transaction_begins_is_replaced(
    proxied: Database, proxy: PostgresProxy, admin: Connection
) -> None:
    proxy.lose(b"BEGIN", Loss.REQUEST)
    await proxied.write(insert("ann"), deadline=soon())
    assert proxy.lost == 1
    assert await written(admin, "ann")


@pytest.mark.parametrize("loss", list(Loss))
async def test_a_commit_without_an_answer_is_unknown(
    proxied: Database, proxy: PostgresProxy, admin: Connection, loss: Loss
) -> None:
    proxy.lose(b"COMMIT", loss)
    with pytest.raises(OutcomeUnknown):
        await proxied.write(insert("ann"), deadline=soon(0.5))
    assert proxy.lost == 1
    assert await written(admin, "ann") == (loss is not Loss.REQUEST)
    await proxied.write(insert("bob"), deadline=soon())  # and the database is usable


@pytest.mark.parametrize("loss", list(Loss))
async def test_a_statement_of_its_own_without_an_answer_is_unknown(
    proxied: Database, proxy: PostgresProxy, admin: Connection, loss: Loss
) -> None:
    await proxied.execute_write(INSERT, "warm", deadline=soon())
    proxy.lose(b"ann", loss)
    with pytest.raises(OutcomeUnknown):
        await proxied.execute_write(INSERT, "ann", deadline=soon(0.5))
    assert proxy.lost == 1
    assert await written(admin, "ann") == (loss is not Loss.REQUEST)
    await proxied.execute_write(INSERT, "bob", deadline=soon())


async def test_a_refusal_at_commit_is_certain(database: Database, admin: Connection) -> None:
    await admin.execute(
        "ALTER TABLE notes ALTER CONSTRAINT notes_course_exists DEFERRABLE INITIALLY DEFERRED"
    )

    async def work(connection: Connection) -> None:
        await connection.execute("INSERT INTO notes (user_id, course_id) VALUES ('ann', 'nowhere')")

    with pytest.raises(ConstraintViolation) as caught:
        await database.write(work, deadline=soon())
    assert caught.value.constraint == "notes_course_exists"
    assert await database.read(one, deadline=soon()) == 1


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


async def test_a_database_that_nobody_serves_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await Database.connect(f"postgresql://nobody@/nothing?host={tmp_path}&port=1")
    with pytest.raises(DatabaseUnavailable):
        await Database.connect("postgresql://nobody@127.0.0.1:1/nothing")


async def test_a_database_that_went_away_is_unavailable_and_comes_back(
    proxy: PostgresProxy, admin: Connection
) -> None:
    async with opened(proxy.dsn, minimum=1, maximum=2) as database:
        proxy.refuse = True
        await terminate_backends(admin)
        for _ in range(4):
            with pytest.raises(DatabaseUnavailable):
                await database.write(insert("ann"), deadline=soon())
        proxy.refuse = False
        await database.write(insert("ann"), deadline=soon())
        assert database.pool_size <= 2


async def test_too_many_connections_are_unavailability(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    await admin.execute("ALTER ROLE empty_service CONNECTION LIMIT 1")
    try:
        async with opened(empty_database.service, minimum=1, maximum=2) as database:

            async def work(connection: Connection) -> None:
                with pytest.raises(DatabaseUnavailable):
                    await database.read(one, deadline=soon())

            await database.read(work, deadline=soon())
    finally:
        await admin.execute("ALTER ROLE empty_service CONNECTION LIMIT -1")


async def test_who_finds_no_free_connection_until_the_deadline_is_told_so(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    async with opened(empty_database.service, minimum=1, maximum=1, waiting_maximum=1) as database:

        async def hold(_connection: Connection) -> None:
            waiting = asyncio.create_task(database.read(one, deadline=soon(0.2)))
            await eventually_waiting(database, 1)
            with pytest.raises(DatabaseUnavailable, match="too many"):
                await database.read(one, deadline=soon())
            with pytest.raises(DatabaseUnavailable, match="in time"):
                await waiting
            assert database.pool_waiting == 0

        await database.read(hold, deadline=soon())
        assert await database.read(one, deadline=soon()) == 1
        assert (database.pool_size, database.pool_idle) == (1, 1)


async def eventually_waiting(database: Database, count: int) -> None:
    async def reached() -> bool:
        return database.pool_waiting == count

    await eventually(reached)


async def test_those_who_wait_for_a_connection_get_it_in_their_order(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    served: list[int] = []

    def serve(number: int) -> Callable[[Connection], Awaitable[None]]:
        async def work(connection: Connection) -> None:
            served.append(number)
            await one(connection)

        return work

    async with opened(empty_database.service, minimum=1, maximum=1) as database:

        async def hold(_connection: Connection) -> list[asyncio.Task[None]]:
            tasks = []
            for number in range(5):
                tasks.append(asyncio.create_task(database.read(serve(number), deadline=soon())))
                await eventually_waiting(database, number + 1)
            tasks.pop(2).cancel()  # who leaves the queue does not hold it up
            return tasks

        await asyncio.gather(*await database.read(hold, deadline=soon()))
    assert served == [0, 1, 3, 4]


async def test_closing_waits_for_the_writes_under_way_and_begins_no_more(
    database: Database, admin: Connection
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: Connection) -> None:
        began.set()
        await go_on.wait()
        await connection.fetchval(INSERT, "ann")

    write = asyncio.create_task(database.write(work, deadline=soon()))
    await began.wait()
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0)
    with pytest.raises(DatabaseUnavailable):
        await database.read(one, deadline=soon())
    assert not closing.done()
    go_on.set()
    await closing
    await write
    assert await written(admin, "ann")
    assert await admin.fetchval(
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'under test' AND state <> 'idle'"
    )


async def test_it_works_without_prepared_statements(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    async with opened(empty_database.service, statement_cache_size=0) as database:
        for name in ("ann", "bob"):
            await database.write(insert(name), deadline=soon())
    assert await admin.fetchval("SELECT count(*) FROM notes WHERE user_id IN ('ann', 'bob')") == 2


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


async def test_nothing_leaks_when_callers_are_cancelled_and_connections_die_at_random(
    empty_database: ServiceDatabase, admin: Connection
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    committed: set[str] = set()
    undecided: set[str] = set()
    refused: set[str] = set()
    finished = asyncio.Event()

    async with opened(empty_database.service, minimum=2, maximum=4) as database:

        async def learner(number: int) -> None:
            for step in itertools.count():
                if finished.is_set():
                    return
                user_id = f"{number}-{step}"
                call = (
                    database.write(insert(user_id), deadline=soon())
                    if chance.random() < 0.5
                    else database.execute_write(INSERT, user_id, deadline=soon())
                )
                undecided.add(user_id)
                try:
                    async with asyncio.timeout(chance.choice([0.0005, 0.002, 5.0])):
                        await call
                except (TimeoutError, OutcomeUnknown):
                    continue
                except DatabaseUnavailable:
                    refused.add(user_id)
                else:
                    committed.add(user_id)
                undecided.discard(user_id)

        async def reader() -> None:
            while not finished.is_set():
                try:
                    async with asyncio.timeout(chance.choice([0.0005, 5.0])):
                        await database.read(one, deadline=soon())
                except (TimeoutError, DatabaseUnavailable):
                    continue

        async def killer() -> None:
            for _ in range(10):
                await terminate_backends(admin)
                enough = 40 + len(committed)
                async with asyncio.timeout(20):
                    while len(committed) < enough:
                        await asyncio.sleep(0)
            finished.set()

        await asyncio.gather(*(learner(number) for number in range(16)), reader(), reader(), killer())
        async with asyncio.timeout(10):
            await asyncio.gather(*(database.read(one, deadline=soon()) for _ in range(16)))

        async def all_back() -> bool:
            return database.pool_idle == database.pool_size and not database.pool_waiting

        await eventually(all_back)
        assert 1 <= database.pool_size <= 4
    rows = {row["user_id"] for row in await admin.fetch("SELECT user_id FROM notes")}
    assert undecided, "nothing was cut"
    assert committed <= rows, "a write that was reported as committed is missing"
    assert not refused & rows, "a write that was reported as not done is there"
    assert rows - {"locked-1", "locked-2"} <= committed | undecided
