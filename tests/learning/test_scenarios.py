"""The eight situations in which learners used to see a lesson locked that they had opened."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from chassis import failpoints
from chassis.batch import Reply
from chassis.cache.values import Signer
from chassis.cache.versioned import Update
from chassis.context import Context
from progress_service.operations import completions
from protos.progress.v1 import lessons_pb2
from tests.learning.world import CACHE, LESSONS, STORE, TOKEN, World, body
from tests.support.service_process import serving
from tests.support.waiting import eventually


async def test_1_normal_the_next_lesson_is_open_at_once_and_from_the_cache(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    for name, following in zip(course.names, course.names[1:], strict=False):
        done = await world.complete(ada, name)
        assert done.cache_updated
        answer = await world.access(ada, following, done.version)
        assert (answer.accessible, answer.source) == (True, CACHE)


async def test_2_slow_network_a_completion_is_answered_within_the_limit_of_the_cache(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    patient = await world.start(write_seconds_max=2.0)
    world.proxy.delay_seconds = 0.5
    done = await world.one(world.completion(ada, course.names[0]), patient)
    assert done.db_updated
    impatient = await world.start(write_seconds_max=0.2, read_seconds_max=0.05)
    done = await world.one(world.completion(ada, course.names[1]), impatient)
    assert (done.db_updated, done.cache_updated) == (True, False)
    for replica in (patient, impatient):
        assert (await world.access(ada, course.names[2], done.version, replica)).accessible


async def test_a_slow_cache_keeps_no_answer_beyond_the_deadline_of_its_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, course = await world.learner(), await world.course()
    patient = await world.start(write_seconds_max=60.0)
    assert (await world.one(world.completion(ada, course.names[0]), patient)).cache_updated
    monkeypatch.setattr(completions, "ANSWER_SECONDS", 3600.0)  # as if the deadline were near
    world.proxy.delay_seconds = 1.0
    done = await world.one(world.completion(ada, course.names[1]), patient)
    assert (done.db_updated, done.cache_updated) == (True, False)


async def test_3_cache_writer_gone_the_database_opens_the_next_lesson(world: World) -> None:
    ada, course = await world.enrolled()
    writer, reader = await world.start(url=None), world.replica
    await world.access(ada, course.names[1], replica=reader)  # cached as locked

    async def cached() -> bool:
        return bool(await world.keys(ada))

    await eventually(cached)
    done = await world.one(world.completion(ada, course.names[0]), writer)
    assert not done.cache_updated
    for token in (0, done.version):
        answer = await world.access(ada, course.names[1], token, reader)
        assert (answer.accessible, answer.source) == (True, STORE)


async def test_4_two_lessons_at_once_both_count_and_both_open_what_follows(world: World) -> None:
    course, others = await world.course(), await world.course()
    replicas = [world.replica, await world.start()]
    for _ in range(20):
        ada = await world.learner()
        items = [world.completion(ada, school.names[0]) for school in (course, others)]
        outcomes = await asyncio.gather(
            *(replica.send([item]) for replica, item in zip(replicas, items, strict=True))
        )
        answers = [body(item, each) for item, (each,) in zip(items, outcomes, strict=True)]
        assert len({answer.version for answer in answers}) == 2
        newest = max(answer.version for answer in answers)
        for school in (course, others):
            for replica in replicas:
                assert (await world.access(ada, school.names[1], newest, replica)).accessible
        stats = await world.stats(ada)
        assert (stats.completed_lessons, stats.enrolled, stats.xp) == (2, 2, 20)


async def test_5_tab_switch_another_tab_without_a_token_sees_no_lock(world: World) -> None:
    ada, course = await world.enrolled()
    other_tab = await world.start()
    assert not (await world.access(ada, course.names[1], replica=other_tab)).accessible
    done = await world.complete(ada, course.names[0])
    answer = await world.access(ada, course.names[1], replica=other_tab)
    assert (answer.accessible, answer.version) == (True, done.version)


async def test_6_page_refresh_progress_and_access_agree(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    for place, name in enumerate(course.names):
        done = await world.complete(ada, name)
        fresh = await world.start()  # nothing in its memory
        progress = await world.progress(ada, course.course_id, replica=fresh)
        assert progress.version == done.version
        assert [each.status for each in progress.lessons][: place + 1] == [3] * (place + 1)
        for each in progress.lessons:
            answer = await world.access(ada, (each.module_id, each.lesson_id), replica=fresh)
            assert answer.accessible == (each.status != 1)


async def test_7_failed_cache_update_the_answer_says_so_and_the_next_lesson_is_open(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    await world.complete(ada, course.names[0])
    await world.freeze()
    done = await world.complete(ada, course.names[1])
    assert (done.success, done.db_updated, done.cache_updated) == (True, True, False)
    for token in (0, done.version):
        answer = await world.access(ada, course.names[2], token)
        assert (answer.accessible, answer.source) == (True, STORE)
    await world.thaw()
    assert (await world.complete(ada, course.names[2])).cache_updated


async def test_8_replication_lag_a_frozen_cache_and_late_reads_lock_nothing(world: World) -> None:
    ada, course = await world.enrolled()
    replica = await world.start(read_seconds_max=5.0)
    await world.access(ada, course.names[0])

    async def cached() -> bool:
        return bool(await world.keys(ada))

    await eventually(cached)
    await world.freeze()
    for name, following in zip(course.names, course.names[1:], strict=False):
        done = await world.complete(ada, name)
        world.proxy.delay_seconds = 0.05
        answers = await asyncio.gather(
            *(world.access(ada, following, token, replica) for token in (0, done.version, 0))
        )
        world.proxy.delay_seconds = 0.0
        assert all(answer.accessible for answer in answers)
        assert answers[1].version >= done.version


async def test_a_read_that_is_older_than_a_completion_does_not_undo_it_in_the_cache(
    world: World,
) -> None:
    """A reader reads the database, is delayed, and writes the cache after the completion did."""
    ada, course = await world.enrolled()
    late = await world.start()
    await world.access(ada, course.names[1], replica=late)

    async def cached() -> bool:
        return bool(await world.keys(ada))

    await eventually(cached)
    (key,) = await world.keys(ada)
    old = await world.redis.get(key)
    done = await world.complete(ada, course.names[0])
    newest = await world.redis.get(key)
    assert old != newest
    # The late reader's value, written now.
    assert isinstance(old, bytes)
    from_before = Signer(secret=TOKEN).decode(key.decode(), old)
    assert from_before is not None
    await late.cache.write([Update(key.decode(), from_before)])
    assert await world.redis.get(key) == newest
    assert (await world.access(ada, course.names[1], done.version)).source == CACHE


@pytest.mark.fault
async def test_a_process_that_dies_between_database_and_cache_loses_nothing(
    world: World, tmp_path: Path
) -> None:
    ada, course = await world.learner(), await world.course()
    path = f"{LESSONS}/CompleteLesson"
    request = lessons_pb2.CompleteLessonRequest(module_id=course.names[0][0], lesson_id=course.names[0][1])

    def context() -> Context:
        return Context(path, ada, frozenset({"learner"}), "k1", "", time.monotonic() + 10, "")

    settings = {
        "HOMEROOM_DATABASE_URL": world.progress_dsn,
        "HOMEROOM_SUBSCRIPTION_TARGET": world.subscription_target,
        "HOMEROOM_REDIS_URL": world.proxy.url,
        "HOMEROOM_FAILPOINTS_DIR": str(tmp_path),
    }
    async with serving("progress_service", **settings) as process:
        failpoints.arm(tmp_path, "progress.after_commit", "kill")
        async with process.upstream() as upstream:
            (outcome,) = await upstream.call_many(path, [(request, context())])
            assert not isinstance(outcome, Reply)
        assert await process.ended() == -signal.SIGKILL
    assert not await world.keys(ada)
    async with serving("progress_service", **settings) as process, process.upstream() as upstream:
        (outcome,) = await upstream.call_many(path, [(request, context())])
        assert isinstance(outcome, Reply), outcome
        assert outcome.replayed
        answer = lessons_pb2.CompleteLessonResponse.FromString(outcome.payload())
        assert (answer.xp_awarded, answer.cache_updated) == (10, True)
        _, page = await process.page("/metrics")
        assert 'homeroom_cache_update_seconds_count{cache="access",result="confirmed"} 1.0' in page
        _, page = await process.page("/readyz")
        assert '"cache"' in page
    assert (await world.access(ada, course.names[1])).accessible
    stats = await world.stats(ada)
    assert (stats.completed_lessons, stats.xp) == (1, 10)
