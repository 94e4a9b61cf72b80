"""An ordinary completion takes two statements; what has changed between them is decided under the lock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from bench.scale.plans import WatchedDatabase
from chassis.errors import Reason, ServiceError
from chassis.postgres import Database
from progress_service.store.unlocked_completions import UnlockedCompletionStore
from tests.learning.world import Replica, World, body, reasons, unique
from tests.progress.specializations import put_levels, specialization_name
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres_proxy import Loss, PostgresProxy

TABLES = {
    "lesson_completions": "course_id, epoch, module_id, lesson_id, revision, xp",
    "enrollments": "course_id, epoch, since_revision, completed_lessons, completed_at IS NOT NULL",
    "xp_entries": "amount, specialization, epoch",
    "activity_days": "day",
    "learner_statistics": "xp, enrolled, completed_lessons, completed_sessions, version, epoch",
    "specialization_progress": "specialization, xp, level, max_level, granted_level, epoch, catalog_version,"
    " version",
    "learner_achievements": "achievement",
    "idempotency_keys": "method, state, octet_length(fingerprint)",
    "outbox": "topic, octet_length(payload)",
}
"""What a completion writes, without what differs from learner to learner."""
WRITING = b'"active_day"'
"""What only the writing statement has among its parameters."""
Happening = Callable[[], Awaitable[object]]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Happening]:
    """What happens, once, between the reading and the writing statement."""
    happenings: list[Happening] = []
    write = UnlockedCompletionStore.write_unchanged

    async def after(store: UnlockedCompletionStore, *drafted: Any, **keywords: Any) -> Any:
        while happenings:
            await happenings.pop()()
        return await write(store, *drafted, **keywords)

    monkeypatch.setattr(UnlockedCompletionStore, "write_unchanged", after)
    return happenings


async def rows_of(world: World, user: str) -> dict[str, list[tuple[object, ...]]]:
    return {
        table: sorted(
            map(
                tuple,
                await world.truth.fetch(f"SELECT {columns} FROM {table} WHERE user_id = $1", user),  # noqa: S608 - named above
            ),
            key=repr,
        )
        for table, columns in TABLES.items()
    }


async def test_an_ordinary_completion_takes_two_statements(world: World) -> None:
    watched = await WatchedDatabase.connect(world.progress_dsn, maximum=1)
    assert isinstance(watched, WatchedDatabase)
    world.stack.push_async_callback(watched.close)
    replica = await world.start(database=watched)
    course = await world.course()
    users = [await world.learner() for _ in range(3)]
    assert reasons(await replica.send([world.enrollment(user, course.course_id) for user in users])) == (
        [None] * 3
    )
    for name in course.names[:2]:  # the first one also reads the course
        watched.statements.clear()
        assert reasons(await replica.send([world.completion(user, name) for user in users])) == [None] * 3
    assert len(watched.statements) == 2


async def test_both_ways_write_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels that rise, a streak, the end of a course, lessons without XP: one learner for each way."""
    specialization = specialization_name()
    await put_levels(world.truth, specialization, [0, 20, 45])
    course_id, module = unique("course"), unique("module")
    xp = [10, 0, 10, 10, 20, 5]
    await world.put_course(
        course_id,
        [(module, [{"lesson_id": f"l{n}", "xp": each} for n, each in enumerate(xp)])],
        specialization=specialization,
    )
    quick, slow = await world.learner(), await world.learner()
    now = datetime.now(UTC)
    answers: dict[str, list[Any]] = {}
    for user in (quick, slow):
        if user == slow:

            async def nothing(_: object, items: list[object]) -> list[None]:
                return [None] * len(items)

            monkeypatch.setattr(UnlockedCompletionStore, "read_facts", nothing)
        await world.one(world.enrollment(user, course_id))
        answers[user] = []
        for number, days in enumerate([4, 4, 3, 1, 2, 0]):
            moment = Timestamp()
            moment.FromDatetime(now - timedelta(days=days))
            answers[user].append(await world.complete(user, (module, f"l{number}"), occurred_at=moment))
    assert answers[quick] == answers[slow]
    assert [answer.xp_awarded for answer in answers[quick]] == xp
    assert await rows_of(world, quick) == await rows_of(world, slow)
    assert ("streak-3",) in (await rows_of(world, quick))["learner_achievements"]
    assert await world.truth.fetchval("SELECT count(*) FROM outbox WHERE user_id = $1", quick) == 3


async def test_a_lesson_that_is_completed_meanwhile_counts_once(
    world: World, meanwhile: list[Happening]
) -> None:
    user, school = await world.enrolled()
    polite, other = await world.enrolled()
    meanwhile.append(lambda: world.complete(user, school.names[0]))
    items = [world.completion(user, school.names[0]), world.completion(polite, other.names[0])]
    answers = [body(*each) for each in zip(items, await world.replica.send(items), strict=True)]
    assert [answer.xp_awarded for answer in answers] == [0, 10]
    assert (await world.stats(user)).xp == 10


async def test_a_key_that_is_used_meanwhile_has_one_effect_and_one_answer(
    world: World, meanwhile: list[Happening]
) -> None:
    user, school = await world.enrolled()
    polite, other = await world.enrolled()
    first: list[Any] = []

    async def same_key() -> None:
        first.append(await world.complete(user, school.names[0], "one key"))

    meanwhile.append(same_key)
    items = [world.completion(user, school.names[0], "one key"), world.completion(polite, other.names[0])]
    replay, quick = await world.replica.send(items)
    assert (replay.replayed, quick.replayed) == (True, False)
    assert body(items[0], replay) == first[0]
    assert (await world.stats(user)).version == first[0].version


async def test_a_key_that_only_its_unique_row_shows_costs_the_neighbours_nothing(
    world: World, meanwhile: list[Happening]
) -> None:
    """The learner's row is as it was read, although the key is in use now."""
    user, school = await world.enrolled()
    polite, other = await world.enrolled()
    await world.complete(user, school.names[0], "first")

    async def copy_key() -> None:
        await world.truth.execute(
            "INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response)"
            " SELECT user_id, method, 'second', state, fingerprint, response"
            "   FROM idempotency_keys WHERE user_id = $1 AND key = 'first'",
            user,
        )

    meanwhile.append(copy_key)
    items = [world.completion(user, school.names[1], "second"), world.completion(polite, other.names[0])]
    assert reasons(await world.replica.send(items)) == [Reason.IDEMPOTENCY_KEY_REUSED, None]
    assert (await world.stats(user)).xp == 10


async def test_a_reset_meanwhile_begins_an_epoch_for_the_completion(
    world: World, meanwhile: list[Happening]
) -> None:
    user, school = await world.enrolled()
    await world.complete(user, school.names[0])

    async def reset() -> None:
        await world.truth.execute(
            "INSERT INTO progress_resets VALUES ($1, 1, 'all', '', 'root', 'a test', clock_timestamp())", user
        )
        await world.truth.execute(
            "UPDATE learner_statistics SET epoch = 1, version = version + 1 WHERE user_id = $1", user
        )

    meanwhile.append(reset)
    with pytest.raises(ServiceError) as refusal:
        await world.complete(user, school.names[1])
    assert refusal.value.reason is Reason.LESSON_LOCKED
    assert (await world.complete(user, school.names[0])).xp_awarded == 10


async def test_a_level_that_changes_meanwhile_is_not_lost(world: World, meanwhile: list[Happening]) -> None:
    """Not even one that leaves the learner's row as it is."""
    specialization = specialization_name()
    await put_levels(world.truth, specialization, [0, 1000])
    user, school = await world.enrolled(specialization=specialization)
    await world.complete(user, school.names[0])

    async def earn() -> None:
        await world.truth.execute(
            "UPDATE specialization_progress SET xp = xp + 985, version = version + 1 WHERE user_id = $1", user
        )

    meanwhile.append(earn)
    assert (await world.complete(user, school.names[1])).xp_awarded == 10
    (row,) = await world.truth.fetch("SELECT xp, level FROM specialization_progress WHERE user_id = $1", user)
    assert (row["xp"], row["level"]) == (1005, 2)
    # What was planted is no history.
    for sql in (
        "UPDATE specialization_progress SET xp = 20, level = 1 WHERE user_id = $1",
        "DELETE FROM learner_achievements WHERE user_id = $1 AND achievement <> 'first-lesson'",
    ):
        await world.truth.execute(sql, user)


async def test_a_locked_learner_costs_the_neighbours_nothing(world: World) -> None:
    locked, school = await world.enrolled()
    polite = [await world.learner() for _ in range(2)]
    await world.replica.send([world.enrollment(user, school.course_id) for user in polite])
    holder = await asyncpg.connect(world.progress_dsn)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM learner_statistics WHERE user_id = $1 FOR UPDATE", locked)
            users = [polite[0], locked, polite[1]]
            items = [world.completion(user, school.names[0]) for user in users]
            sending = asyncio.create_task(world.replica.send(items))
            outcomes = await sending
            assert reasons(outcomes) == [None, Reason.UNAVAILABLE, None]
    finally:
        await holder.close()
    assert (await world.complete(locked, school.names[0])).xp_awarded == 10


@pytest.mark.parametrize("what", ["read_facts", "write_unchanged"])
async def test_whatever_goes_wrong_without_locks_the_way_with_locks_answers(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise LookupError("a mistake of ours")

    monkeypatch.setattr(UnlockedCompletionStore, what, fail)
    user, school = await world.enrolled()
    assert (await world.complete(user, school.names[0])).xp_awarded == 10


async def test_two_replicas_complete_for_one_learner_at_once(world: World) -> None:
    replicas: list[Replica] = [world.replica, await world.start()]
    user, school = await world.enrolled(modules=1, lessons=1)
    others = [await world.enrolled(modules=1, lessons=1) for _ in range(8)]
    batches = [
        [world.completion(user, school.names[0]), *(world.completion(u, s.names[0]) for u, s in others)]
        for _ in range(4)
    ]
    sent = await asyncio.gather(*(replicas[place % 2].send(batch) for place, batch in enumerate(batches)))
    for answers in zip(*sent, strict=True):
        awarded = [
            body(batches[0][0], answer).xp_awarded
            for answer in answers
            if not isinstance(answer, ServiceError)
        ]
        assert sum(awarded) == 10
    for each, _ in [(user, school), *others]:
        assert (await world.stats(each)).xp == 10


@pytest.fixture
async def behind_proxy(world: World) -> AsyncIterator[tuple[PostgresProxy, Replica]]:
    async with PostgresProxy(world.progress_dsn).running() as proxy:
        database = await Database.connect(proxy.dsn, maximum=4)
        yield proxy, await world.start(database=database)
        await database.close()


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER])
async def test_a_statement_that_was_not_answered_is_settled_by_the_keys(
    world: World, behind_proxy: tuple[PostgresProxy, Replica], loss: Loss
) -> None:
    proxy, replica = behind_proxy
    school = await world.course()
    users = [await world.learner() for _ in range(3)]
    await replica.send([world.enrollment(user, school.course_id) for user in users])
    items = [world.completion(user, school.names[0]) for user in users]
    proxy.lose(WRITING, loss)
    answers = await replica.send(items)
    assert proxy.lost == 1
    assert [answer.replayed for answer in answers] == [loss is Loss.ANSWER] * 3
    assert [body(*each).xp_awarded for each in zip(items, answers, strict=True)] == [10] * 3
    assert [(await world.stats(user)).xp for user in users] == [10] * 3


async def test_an_answer_that_comes_too_late_is_found_by_the_next_attempt(
    world: World, behind_proxy: tuple[PostgresProxy, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, replica = behind_proxy
    user, school = await world.enrolled()
    item = world.completion(user, school.names[0])
    proxy.lose(WRITING, Loss.SILENCE)
    with monkeypatch.context() as patch:
        patch.setattr(world, "timeout_seconds", 1.0)
        (late,) = await replica.send([world.again(item)])
    assert late.reason in {Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED}
    (answer,) = await replica.send([world.again(item)])
    assert (answer.replayed, body(item, answer).xp_awarded) == (True, 10)
    assert (await world.stats(user)).xp == 10


async def test_a_caller_who_leaves_at_any_moment_leaves_everything_or_nothing(world: World) -> None:
    user, school = await world.enrolled(modules=1, lessons=30)
    polite, other = await world.enrolled(modules=1, lessons=30)
    for number, (name, others) in enumerate(zip(school.names, other.names, strict=True)):
        items = [world.completion(user, name), world.completion(polite, others)]
        sending = asyncio.create_task(world.replica.send(items))
        for _ in range(number):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        answers = await world.replica.send([world.again(item) for item in items])
        assert [body(*each).xp_awarded for each in zip(items, answers, strict=True)] == [10, 10]
    assert [(await world.stats(each)).xp for each in (user, polite)] == [300, 300]


CHANGE_AND_FAIL = """
    DO $$ BEGIN
        UPDATE learner_statistics SET xp = 5 WHERE user_id = {user};
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
    END $$
"""
VERSION_UNCHANGED = {
    "frozen": ["VACUUM (FREEZE) learner_statistics"],
    "rewritten": ["VACUUM (FULL, FREEZE) learner_statistics"],
    "locked by others who have left": [
        "SELECT FROM learner_statistics WHERE user_id = {user} FOR UPDATE",
        "SELECT FROM learner_statistics WHERE user_id = {user} FOR KEY SHARE",
    ],
    "changed by one who has failed": [CHANGE_AND_FAIL],
}


@pytest.mark.parametrize("statements", VERSION_UNCHANGED.values(), ids=VERSION_UNCHANGED)
async def test_a_row_that_was_only_touched_is_still_the_version_that_was_read(
    world: World, monkeypatch: pytest.MonkeyPatch, statements: list[str]
) -> None:
    user, school = await world.enrolled()
    written: list[set[str]] = []
    write = UnlockedCompletionStore.write_unchanged

    async def touched(store: UnlockedCompletionStore, *drafted: Any, **keywords: Any) -> Any:
        for statement in statements:
            await world.truth.execute(statement.format(user=f"'{user}'"))
        written.append(await write(store, *drafted, **keywords))
        return written[-1]

    monkeypatch.setattr(UnlockedCompletionStore, "write_unchanged", touched)
    assert (await world.complete(user, school.names[0])).xp_awarded == 10
    assert written == [{user}]


async def test_a_change_by_a_part_of_a_transaction_makes_another_version(
    world: World, meanwhile: list[Happening]
) -> None:
    """The part has a transaction id of its own."""
    user, school = await world.enrolled()

    async def change() -> None:
        async with world.truth.transaction(), world.truth.transaction():
            await world.truth.execute(
                "UPDATE learner_statistics SET version = version + 1 WHERE user_id = $1", user
            )

    meanwhile.append(change)
    before = (await world.stats(user)).version
    assert (await world.complete(user, school.names[0])).version == before + 2


async def test_lessons_are_completed_once_behind_pgbouncer(world: World) -> None:
    """The lock timeout of the writing statement stays with it, although others use its connection next."""
    async with pgbouncer(world.progress_dsn, pool_size=2) as (address,):
        database = await Database.connect(address, maximum=8, statement_cache_size=0)
        try:
            replica = await world.start(database=database)
            school = await world.course()
            users = [await world.learner() for _ in range(16)]
            await replica.send([world.enrollment(user, school.course_id) for user in users])
            batches = [
                [world.completion(user, school.names[0]) for user in users[first::4]]
                for first in range(4)
                for _ in range(2)
            ]
            sent = await asyncio.gather(*map(replica.send, batches))
            settings = await asyncio.gather(
                *(
                    database.read(
                        lambda connection: connection.fetchval("SHOW lock_timeout"),
                        deadline=time.monotonic() + 10,
                        name="look",
                    )
                    for _ in range(8)
                )
            )
        finally:
            await database.close()
    awarded = [
        body(*each).xp_awarded
        for items, answers in zip(batches, sent, strict=True)
        for each in zip(items, answers, strict=True)
    ]
    assert sorted(awarded) == [0] * 16 + [10] * 16
    assert [(await world.stats(user)).xp for user in users] == [10] * 16
    assert set(settings) == {"0"}
