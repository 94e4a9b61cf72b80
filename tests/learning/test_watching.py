"""What was watched is a union: order, overlap and repetition make no difference, and nothing gets lost."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import Reason, ServiceError
from progress_service.domain.watching import GAP_MS_MIN, RANGES_MAX, Range, clipped, union
from tests.learning.world import World, body, reasons, unique

VIDEO_SECONDS = 100


async def video(world: World, seconds: float = VIDEO_SECONDS) -> tuple[str, str]:
    course = unique("course")
    lessons = [{"lesson_id": "l1", "video_seconds": seconds}, "l2"]
    await world.put_course(course, [(f"{course}-m", lessons)])
    return f"{course}-m", "l1"


def shown(answer: Any) -> list[tuple[float, float]]:
    return [(each.from_seconds, each.to_seconds) for each in answer.ranges]


async def test_ranges_are_merged_and_clipped_to_the_video(world: World) -> None:
    ada, name = await world.learner(), await video(world)
    answer = await world.one(world.watching(ada, name, (10, 20), (15, 30), (90, 5000), (90, 90)))
    assert shown(answer) == [(10, 30), (90, 100)]
    assert answer.watched_ratio == pytest.approx(0.3)
    assert answer.version == 1
    again = await world.one(world.watching(ada, name, (12, 18)))
    assert again == answer
    asked = await world.one(world.watching(ada, name))
    assert asked == answer
    more = await world.one(world.watching(ada, name, (0, 10)))
    assert (shown(more), more.version) == ([(0, 30), (90, 100)], 2)


async def test_a_gap_that_nobody_sees_is_closed(world: World) -> None:
    ada, name = await world.learner(), await video(world)
    answer = await world.one(world.watching(ada, name, (0, 10), (10.2, 20), (20.3, 30)))
    assert shown(answer) == [(0, 20), (20.3, 30)]


async def test_what_cannot_be_watched_is_refused_beside_polite_neighbours(world: World) -> None:
    ada, bob, name = await world.learner(), await world.learner(), await video(world)
    long = await video(world, 86_400)
    parts = [(n, n + 0.5) for n in range(0, 1002 * 2, 2)]
    items = [
        world.watching(ada, name, (0, 1)),
        world.watching(ada, name, (2, 1)),
        world.watching(ada, (name[0], "l2"), (0, 1)),
        world.watching(ada, ("nowhere", "l1"), (0, 1)),
        world.watching(bob, long, *parts),
        world.watching(bob, name, (0, 1)),
    ]
    assert reasons(await world.replica.send(items)) == [
        None,
        Reason.INVALID_ARGUMENT,
        Reason.LESSON_LOCKED,
        Reason.NOT_FOUND,
        Reason.INVALID_ARGUMENT,
        None,
    ]
    assert (await world.one(world.watching(bob, long, *parts[:RANGES_MAX]))).watched_ratio > 0


async def test_a_lesson_without_a_video_has_nothing_to_watch(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    with pytest.raises(ServiceError) as refusal:
        await world.one(world.watching(ada, course.names[0], (0, 1)))
    assert refusal.value.reason is Reason.INVALID_ARGUMENT


async def test_many_reports_at_once_from_two_replicas_lose_nothing(world: World) -> None:
    ada, name = await world.learner(), await video(world)
    replicas = [world.replica, await world.start()]
    parts = [(float(n), n + 1.0) for n in range(VIDEO_SECONDS)] * 2
    random.Random(7).shuffle(parts)
    told: set[int] = set()

    async def report(place: int) -> None:
        while place not in told:
            (outcome,) = await replicas[place % 2].send([world.watching(ada, name, parts[place])])
            if not isinstance(outcome, ServiceError):
                told.add(place)

    await asyncio.gather(*map(report, range(len(parts))))
    answer = await world.one(world.watching(ada, name))
    assert (shown(answer), answer.watched_ratio) == ([(0, VIDEO_SECONDS)], 1.0)


async def test_the_database_has_the_same_union(world: World) -> None:
    ada, name = await world.learner(), await video(world)
    chance = random.Random(11)
    told: list[tuple[float, float]] = []
    for _ in range(30):
        start = chance.randrange(0, 95)
        part = (float(start), start + chance.choice([0.5, 1.0, 3.0]))
        told.append(part)
        answer = await world.one(world.watching(ada, name, part))
    stored = await world.truth.fetchval("SELECT ranges FROM watched_videos WHERE user_id = $1", ada)
    expected = union([Range(round(a * 1000), round(b * 1000)) for a, b in told])
    assert [(each.lower, each.upper) for each in stored] == expected
    assert shown(answer) == [(each.from_ms / 1000, each.to_ms / 1000) for each in expected]


async def test_a_shorter_video_takes_nothing_away(world: World) -> None:
    ada, course = await world.learner(), unique("course")
    name = (f"{course}-m", "l1")
    for seconds in (100, 10):
        await world.put_course(
            course, [(name[0], [{"lesson_id": "l1", "video_seconds": seconds, "min_watched_ratio": 0.5}])]
        )
        if seconds == 100:
            await world.one(world.watching(ada, name, (0, 60)))
    answer = await world.one(world.watching(ada, name))
    assert (shown(answer), answer.watched_ratio) == ([(0, 60)], 1.0)


async def test_the_same_requests_in_one_batch_behave_as_one_after_the_other(world: World) -> None:
    ada, name = await world.learner(), await video(world)
    items = [world.watching(ada, name, (n, n + 1)) for n in range(5)]
    answers = [body(item, each) for item, each in zip(items, await world.replica.send(items), strict=True)]
    assert shown(answers[-1]) == [(0, 5)]
    assert {answer.version for answer in answers} == {1}


RANGES = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 2000)).map(lambda each: Range(each[0], sum(each))),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(ranges=RANGES, chance=st.randoms(use_true_random=False), video_ms=st.integers(1, 6000))
def test_any_order_of_any_parts_gives_the_same_union(
    ranges: list[Range], chance: random.Random, video_ms: int
) -> None:
    expected = union(clipped(ranges, video_ms=video_ms))
    told = [*ranges, *chance.sample(ranges, k=chance.randint(0, len(ranges)))]
    chance.shuffle(told)
    kept: list[Range] = []
    while told:
        batch = [told.pop() for _ in range(chance.randint(1, len(told)))]
        before, kept = kept, union([*kept, *clipped(batch, video_ms=video_ms)])
        assert all(any(a.from_ms <= b.from_ms and b.to_ms <= a.to_ms for a in kept) for b in before)
    assert kept == expected
    assert all(b.from_ms - a.to_ms >= GAP_MS_MIN for a, b in itertools.pairwise(kept))
