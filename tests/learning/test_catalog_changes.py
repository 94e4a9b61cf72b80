"""A course may change while learners work in it: what they have completed and what is open to them stays."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import Reason, ServiceError
from progress_service.domain.access import CourseAccess, Standing, access_of, access_to
from progress_service.domain.courses import (
    CourseDraft,
    CourseId,
    Edition,
    Lesson,
    LessonName,
    Module,
    plan_course,
)
from progress_service.domain.statistics import UserId
from tests.learning.world import World, unique
from tests.progress.results import MIDDAY

COURSE = CourseId("course")


async def test_a_lesson_that_was_open_stays_open_when_one_is_put_before_it(world: World) -> None:
    ada, course = await world.learner(), unique("course")
    module = f"{course}-m"
    await world.put_course(course, [(module, ["a", "b", "c"])])
    await world.complete(ada, (module, "a"))
    await world.put_course(course, [(module, ["z", "a", "x", "b", "c"])])
    progress = await world.progress(ada, course)
    opened = {each.lesson_id for each in progress.lessons if each.reason != 1}
    assert opened == {"z", "a", "x", "b"}
    await world.complete(ada, (module, "b"))
    # Who comes later takes the lessons in the order of now.
    bob = await world.learner()
    await world.complete(bob, (module, "z"))
    await world.complete(bob, (module, "a"))
    with pytest.raises(ServiceError) as refusal:
        await world.complete(bob, (module, "b"))
    assert refusal.value.reason is Reason.LESSON_LOCKED


async def test_a_lesson_that_is_left_out_stays_for_those_who_have_reached_it(world: World) -> None:
    ada, bob, course = await world.learner(), await world.learner(), unique("course")
    module = f"{course}-m"
    await world.put_course(course, [(module, ["a", "b", "c", "d"])])
    for name in "ab":
        await world.complete(ada, (module, name))
    await world.put_course(course, [(module, ["a", "d"])])
    assert (await world.access(ada, (module, "b"))).accessible
    assert (await world.access(ada, (module, "c"))).accessible
    assert (await world.complete(ada, (module, "c"))).success
    (enrollment,) = await world.enrollments(ada)
    assert (enrollment.completed_lessons, enrollment.total_lessons) == (3, 4)
    done = await world.complete(ada, (module, "d"))
    assert not done.HasField("next")
    (enrollment,) = await world.enrollments(ada)
    assert enrollment.HasField("completed_at")
    with pytest.raises(ServiceError) as refusal:
        await world.access(bob, (module, "b"))
    assert refusal.value.reason is Reason.NOT_FOUND
    # A finished course stays finished.
    await world.put_course(course, [(module, ["a", "d", "e"])])
    (enrollment,) = await world.enrollments(ada)
    assert (enrollment.completed_lessons, enrollment.total_lessons) == (4, 5)
    assert enrollment.HasField("completed_at")


async def test_who_enrolled_may_take_the_lesson_that_was_the_first_one_then(world: World) -> None:
    ada, course = await world.learner(), unique("course")
    await world.put_course(course, [(f"{course}-m", ["a"])])
    await world.one(world.enrollment(ada, course))
    await world.put_course(course, [(f"{course}-n", ["z"]), (f"{course}-m", ["a"])])
    assert (await world.complete(ada, (f"{course}-m", "a"))).success
    assert (await world.access(ada, (f"{course}-n", "z"))).accessible


async def test_a_lesson_whose_video_was_begun_stays_open(world: World) -> None:
    ada, course = await world.learner(), unique("course")
    module = f"{course}-m"
    video = {"lesson_id": "a", "video_seconds": 10}
    await world.put_course(course, [(module, [video])])
    await world.one(world.watching(ada, (module, "a"), (0, 1)))
    await world.put_course(course, [(module, ["z", video])])
    assert (await world.one(world.watching(ada, (module, "a"), (1, 2)))).watched_ratio == 0.2


def lesson(name: str) -> Lesson:
    return Lesson("m", name, "A lesson", 1, None, None)


def changed(edition: Edition | None, order: Sequence[str]) -> Edition:
    draft = CourseDraft(COURSE, "A course", None, (Module("m", "A module", tuple(map(lesson, order))),))
    change = plan_course(draft, edition, {} if edition is None else {"m": COURSE})
    if change is None:
        assert edition is not None
        return edition
    return change.edition


ORDERS = st.lists(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(orders=ORDERS, seed=st.integers(0, 2**32))
def test_nothing_that_was_open_is_ever_locked(orders: list[list[str]], seed: int) -> None:
    chance = random.Random(seed)
    edition: Edition | None = None
    completed: dict[LessonName, int] = {}
    since: int | None = None
    opened: set[LessonName] = set()
    for order in orders:
        edition = changed(edition, order)
        if chance.random() < 0.3:
            since = since or edition.revision
        for _ in range(chance.randint(0, 3)):
            before = access(edition, completed, since)
            if since is not None:
                opened |= {name for name, each in before.lessons.items() if each.open}
            candidates = [name for name, each in before.lessons.items() if each.open]
            assert opened <= set(candidates)
            expected = {name for name, after in zip(edition.order, edition.order[1:], strict=False)}
            for name in completed.keys() & expected:
                following = edition.after(name)
                assert following in candidates
            assert not edition.order or edition.order[0] in candidates
            if candidates:
                since = since or edition.revision
                completed.setdefault(chance.choice(candidates), edition.revision)


def access(edition: Edition, completed: Mapping[LessonName, int], since: int | None) -> CourseAccess:
    """What the course is to a learner. One lesson looked at alone is the same, also if some were begun."""
    standing = Standing(UserId("ada"), COURSE, 1, MIDDAY, since_revision=since, completed=dict(completed))
    for started in (frozenset[LessonName](), frozenset(list(edition.lessons)[::2])):
        whole = access_of(edition, replace(standing, started=started))
        for name in [*edition.lessons, LessonName("m", "never offered")]:
            alone = access_to(
                edition, name, since_revision=since, completed=standing.completed, started=started
            )
            assert alone == whole.of(name)
    return access_of(edition, standing)
