"""Which lessons are open: cached where that is safe, and never locked by mistake."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import orjson
import pytest

from chassis.cache.values import CachedValue, Signer
from chassis.cache.versioned import Update
from chassis.errors import Reason, ServiceError
from tests.learning.world import CACHE, STORE, TOKEN, World, body
from tests.support.waiting import eventually


async def cached(world: World, user: str) -> bytes:
    """The only value of a learner, once it is there."""

    async def there() -> bool:
        return bool(await world.keys(user))

    await eventually(there)
    (key,) = await world.keys(user)
    value = await world.redis.get(key)
    assert isinstance(value, bytes)
    return value


async def test_the_second_answer_about_an_open_lesson_comes_from_the_cache(world: World) -> None:
    ada, course = await world.enrolled()
    first = await world.access(ada, course.names[0])
    assert (first.accessible, first.source) == (True, STORE)
    await cached(world, ada)
    second = await world.access(ada, course.names[0])
    assert (second.accessible, second.source, second.version) == (True, CACHE, first.version)


async def test_a_locked_lesson_is_always_asked_of_the_database(world: World) -> None:
    ada, course = await world.enrolled()
    for _ in range(3):
        answer = await world.access(ada, course.names[1])
        assert (answer.accessible, answer.source) == (False, STORE)
        await cached(world, ada)


async def test_a_completion_is_in_the_cache_when_it_is_answered(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    done = await world.complete(ada, course.names[0])
    assert done.cache_updated
    other = await world.start()
    await world.access(ada, course.names[2], replica=other)  # learns the database's time
    answer = await world.access(ada, course.names[1], done.version, other)
    assert (answer.accessible, answer.source) == (True, CACHE)


async def test_a_token_newer_than_the_cache_is_answered_by_the_database(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    done = await world.complete(ada, course.names[0])
    assert (await world.access(ada, course.names[0], done.version)).source == CACHE
    assert (await world.access(ada, course.names[0], done.version + 1)).source == STORE


async def test_a_value_older_than_the_bound_is_answered_by_the_database(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    replica = await world.start(stale_seconds=0.2)
    await world.access(ada, course.names[2], replica=replica)
    await world.redis.flushall()
    await world.complete(ada, course.names[0])
    await asyncio.sleep(0.3)  # the age itself is the point
    assert (await world.access(ada, course.names[0])).source == CACHE
    assert (await world.access(ada, course.names[0], replica=replica)).source == STORE


async def test_one_batch_asks_redis_once(world: World) -> None:
    course = await world.course()
    users = [await world.learner() for _ in range(20)]
    for user in users:
        await world.complete(user, course.names[0])
    before = (await world.redis.info("commandstats")).get("cmdstat_mget", {}).get("calls", 0)
    answers = await world.replica.send([world.question(user, course.names[1]) for user in users])
    assert {body(world.question("", course.names[0]), each).source for each in answers} == {CACHE}
    after = (await world.redis.info("commandstats"))["cmdstat_mget"]["calls"]
    assert after == before + 1


async def test_nothing_is_cached_for_who_is_not_enrolled(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    for name in (*course.names[:2], course.names[0]):
        assert (await world.access(ada, name)).source == STORE
    await world.put_course(course.course_id, [(course.names[0][0], ["l0", "l1"])])
    assert not (await world.access(ada, course.names[0])).accessible
    assert await world.keys(ada) == []


async def test_progress_shows_each_lesson_in_its_order(world: World) -> None:
    ada, course = await world.learner(), await world.course(modules=2, lessons=2)
    done = await world.complete(ada, course.names[0])
    progress = await world.progress(ada, course.course_id, done.version)
    assert [(each.module_id, each.lesson_id) for each in progress.lessons] == list(course.names)
    assert [each.status for each in progress.lessons] == [3, 2, 1, 1]
    assert (progress.completed_lessons, progress.total_lessons, progress.source) == (1, 4, STORE)
    for name in course.names[1:]:
        done = await world.complete(ada, name)
    progress = await world.progress(ada, course.course_id, done.version)
    assert (progress.completed_lessons, progress.source) == (4, CACHE)


async def test_what_does_not_exist_is_not_found(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    for name in [("nowhere", "l1"), (course.names[0][0], "l99")]:
        with pytest.raises(ServiceError) as refusal:
            await world.access(ada, name)
        assert refusal.value.reason is Reason.NOT_FOUND
    with pytest.raises(ServiceError) as refusal:
        await world.progress(ada, "nowhere")
    assert refusal.value.reason is Reason.NOT_FOUND


async def test_a_lock_that_is_wrong_is_counted_and_never_told(world: World) -> None:
    ada, course = await world.enrolled()
    await world.access(ada, course.names[1])
    old = await cached(world, ada)
    (key,) = await world.keys(ada)
    await world.complete(ada, course.names[0])
    await world.redis.set(key, old)
    before = world.replica.count("access_false_locks")
    answer = await world.access(ada, course.names[1])
    assert (answer.accessible, answer.source) == (True, STORE)
    assert world.replica.count("access_false_locks") == before + 1


def lies(key: str, honest: bytes, bobs: bytes) -> dict[str, bytes]:
    """Values that Redis should not have."""
    signer = Signer(secret=TOKEN)
    value = signer.decode(key, honest)
    assert value is not None
    user, course, offered, lessons = orjson.loads(value.body)
    opened = orjson.dumps([user, course, offered, [[*name, 5] for *name, _ in lessons]])
    forger = Signer(secret="another secret")
    return {
        "garbage": b"\x00\xff garbage",
        "nothing": b"",
        "the half of it": honest[: len(honest) // 2],
        "another learner's": bobs,
        "another signature": forger.encode(key, CachedValue(value.version, value.read_at, opened)),
        "another version": b"9" + honest,
        "a version beyond all numbers": b"9" * 400 + b" 1 x y",
        "a body of another form": signer.encode(key, CachedValue(value.version, value.read_at, b'{"a":1}')),
        "a body that is no JSON": signer.encode(key, CachedValue(value.version, value.read_at, b"\xff")),
        "a time to come": signer.encode(
            key, CachedValue(value.version, value.read_at + timedelta(days=1), opened)
        ),
        "a time beyond all calendars": b"1 " + b"9" * 40 + b" x y",
    }


async def test_whatever_redis_says_the_answer_is_right_and_the_value_is_mended(world: World) -> None:
    ada, bob, course = await world.learner(), await world.learner(), await world.course()
    done = await world.complete(ada, course.names[0])
    await world.complete(bob, course.names[0])
    honest, bobs = await cached(world, ada), await cached(world, bob)
    (key,) = await world.keys(ada)
    for lie, value in lies(key.decode(), honest, bobs).items():
        await world.redis.set(key, value)
        locked, opened = await world.replica.send(
            [world.question(ada, course.names[2]), world.question(ada, course.names[1])]
        )
        for outcome, accessible in ((locked, False), (opened, True)):
            answer = body(world.question(ada, course.names[0]), outcome)
            assert (answer.accessible, answer.source) == (accessible, STORE), lie

        async def mended() -> bool:
            return (await world.access(ada, course.names[1], done.version)).source == CACHE

        await eventually(mended)


async def test_a_key_of_another_type_is_replaced(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    await world.complete(ada, course.names[0])
    await cached(world, ada)
    (key,) = await world.keys(ada)
    await world.redis.delete(key)
    await world.redis.rpush(key, "a", "list")
    assert (await world.complete(ada, course.names[1])).cache_updated
    assert (await world.access(ada, course.names[2])).source == CACHE


async def test_a_version_from_a_future_that_never_was_does_not_win_for_ever(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    await world.complete(ada, course.names[0])
    honest = await cached(world, ada)
    (key,) = await world.keys(ada)
    signer = Signer(secret=TOKEN)
    value = signer.decode(key.decode(), honest)
    assert value is not None
    future = signer.encode(key.decode(), value._replace(version=value.version + 1000))
    await world.redis.set(key, future)
    before = world.replica.count("cache_reads", "access", "mismatch")
    assert not (await world.access(ada, course.names[3])).accessible  # asks the database, and finds out
    assert world.replica.count("cache_reads", "access", "mismatch") == before + 1

    async def mended() -> bool:
        stored = signer.decode(key.decode(), await world.redis.get(key))
        return stored is not None and stored.version == value.version

    await eventually(mended)


async def test_a_write_never_replaces_what_is_newer(world: World) -> None:
    ada, course = await world.enrolled()
    await world.access(ada, course.names[0])
    await cached(world, ada)
    done = await world.complete(ada, course.names[0])
    signer = Signer(secret=TOKEN)
    (key,) = await world.keys(ada)
    newest = await world.redis.get(key)
    value = signer.decode(key.decode(), newest)
    assert value is not None
    older = value._replace(version=value.version - 1)
    earlier = value._replace(read_at=value.read_at - timedelta(seconds=1))
    for each in (older, earlier):
        assert await world.replica.cache.write([Update(key.decode(), each)]) == [True]
        assert await world.redis.get(key) == newest
    assert (await world.access(ada, course.names[1], done.version)).source == CACHE


async def test_values_go_away_by_themselves(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    await world.complete(ada, course.names[0])
    (key,) = await world.keys(ada)
    assert 0 < await world.redis.pttl(key) <= 600_000


async def test_without_redis_everything_is_answered_by_the_database(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    replica = await world.start(url=None)
    done = await world.one(world.completion(ada, course.names[0]), replica)
    assert (done.db_updated, done.cache_updated) == (True, False)
    answer = await world.access(ada, course.names[1], done.version, replica)
    assert (answer.accessible, answer.source) == (True, STORE)


async def test_a_redis_that_is_down_costs_three_failures_and_is_found_again(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    await world.complete(ada, course.names[0])
    world.proxy.down = True
    for _ in range(5):
        answer = await world.access(ada, course.names[1])
        assert (answer.accessible, answer.source) == (True, STORE)
    assert world.replica.cache.breaker_open
    done = await world.complete(ada, course.names[1])
    assert (done.db_updated, done.cache_updated) == (True, False)
    world.proxy.down = False

    async def found_again() -> bool:
        return (await world.access(ada, course.names[1])).source == CACHE

    await eventually(found_again)
    assert not world.replica.cache.breaker_open


async def test_a_slow_redis_is_not_waited_for_by_reads(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    replica = await world.start(read_seconds_max=0.05)
    await world.complete(ada, course.names[0])
    world.proxy.delay_seconds = 30.0
    began = time.monotonic()
    for _ in range(6):
        assert (await world.access(ada, course.names[1], replica=replica)).source == STORE
    assert time.monotonic() - began < 20.0  # far below one answer of this Redis
    assert replica.cache.breaker_open


async def test_a_replay_tells_what_the_cache_holds_when_it_is_sent(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    without = await world.start(url=None)
    first = await world.one(world.completion(ada, course.names[0], "k1"), without)
    assert not first.cache_updated
    again = await world.complete(ada, course.names[0], "k1")
    assert again.cache_updated
    again.cache_updated = False
    assert again == first
    assert (await world.access(ada, course.names[1], first.version)).source == CACHE


async def test_the_access_of_one_course_stays_usable_in_another(world: World) -> None:
    ada, one, two = await world.learner(), await world.course(), await world.course()
    await world.complete(ada, one.names[0])
    done = await world.complete(ada, two.names[0])
    assert (await world.access(ada, one.names[1], done.version)).source == STORE

    async def refreshed() -> bool:
        return (await world.access(ada, one.names[1], done.version)).source == CACHE

    await eventually(refreshed)
