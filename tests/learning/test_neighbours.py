"""A learner with an odd id, or one whose row is locked, costs nobody else anything."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from chassis.errors import Reason, ServiceError
from tests.learning.world import World, body, reasons

ODD = ["a\0b", "x" * 129, "ä" * 128, " ", "a:b:c", "'; DROP TABLE courses; --"]


@pytest.mark.parametrize("what", ["completion", "question", "enrollment", "watching", "progress"])
async def test_an_odd_id_fails_alone_or_not_at_all(world: World, what: str) -> None:
    course = await world.course()
    polite = [await world.learner() for _ in range(2)]

    def item(user: str):
        match what:
            case "completion":
                return world.completion(user, course.names[0])
            case "question":
                return world.question(user, course.names[0])
            case "enrollment":
                return world.enrollment(user, course.course_id)
            case "watching":
                return world.watching(user, (course.names[0]), (0, 1))
            case _:
                return world.progress_of(user, course.course_id)

    outcomes = reasons(await world.replica.send([item(user) for user in [polite[0], *ODD, polite[1]]]))
    expected = Reason.INVALID_ARGUMENT if what == "watching" else None  # this lesson has no video
    assert (outcomes[0], outcomes[-1]) == (expected, expected)
    assert set(outcomes[1:-1]) <= {None, Reason.INVALID_ARGUMENT, Reason.INVALID_USER_REFERENCE}


async def test_ids_that_look_alike_have_values_of_their_own_in_the_cache(world: World) -> None:
    course = await world.course()
    await world.put_account("odd:id", verified=True, active=True)
    await world.complete("odd:id", course.names[0])
    for other in ("odd", "odd:id:", f"odd:id:{course.course_id}"):
        assert not (await world.access(other, course.names[1])).accessible
    assert (await world.access("odd:id", course.names[1])).accessible


@pytest.mark.parametrize("what", ["completion", "watching"])
async def test_a_locked_learner_delays_nobody_for_long(world: World, what: str) -> None:
    course = await world.course()
    await world.put_course(
        course.course_id,
        [(course.names[0][0], [{"lesson_id": "l1", "video_seconds": 10}, "l2", "l3"])],
    )
    locked, polite = await world.learner(), [await world.learner() for _ in range(3)]

    def item(user: str):
        if what == "completion":
            return world.completion(user, course.names[0])
        return world.watching(user, course.names[0], (0, 1))

    await world.replica.send([world.watching(locked, course.names[0], (0, 1))])
    holder = await asyncpg.connect(world.progress_dsn)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM learner_statistics WHERE user_id = $1 FOR UPDATE", locked)
            outcomes = await world.replica.send([item(user) for user in [polite[0], locked, *polite[1:]]])
            assert reasons(outcomes) == [None, Reason.UNAVAILABLE, None, None]
    finally:
        await holder.close()
    assert reasons(await world.replica.send([item(locked)])) == [None]


async def test_a_caller_who_leaves_does_not_stop_a_completion(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    await world.one(world.enrollment(ada, course.course_id))
    item = world.completion(ada, course.names[0], "k1")
    for pauses in range(60):
        task = asyncio.create_task(world.replica.send([world.again(item)]))
        for _ in range(pauses):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    answers = [body(item, (await world.replica.send([world.again(item)]))[0]) for _ in range(2)]
    assert answers[0] == answers[1]
    stats = await world.stats(ada)
    assert (stats.completed_lessons, stats.xp) == (1, 10)


async def test_without_subscription_service_nothing_new_is_completed_and_reads_go_on(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    first = await world.complete(ada, course.names[0], "k1")
    alone = await world.start(accounts_target="127.0.0.1:1")
    (outcome,) = await alone.send([world.completion(ada, course.names[1])])
    assert isinstance(outcome, ServiceError)
    assert outcome.reason is Reason.UNAVAILABLE
    assert (await world.access(ada, course.names[1], replica=alone)).accessible
    assert await world.one(world.completion(ada, course.names[0], "k1"), alone) == first
