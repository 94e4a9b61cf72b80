"""Courses are what administrators say; ids, bounds and neighbours."""

from __future__ import annotations

import asyncio

import pytest

from chassis.errors import Reason, ServiceError
from progress_service.domain import courses as domain
from protos.progress.v1 import courses_pb2
from tests.learning.world import COURSES, World, body, lesson, reasons, unique


def put(world: World, course_id: str, *modules: courses_pb2.Module, **fields: object):
    request = courses_pb2.PutCourseRequest(
        course_id=course_id, modules=modules, **({"title": "A course"} | fields)
    )
    return world.item(f"{COURSES}/PutCourse", request)


def module(module_id: str, *lessons: object, title: str = "A module") -> courses_pb2.Module:
    return courses_pb2.Module(module_id=module_id, title=title, lessons=map(lesson, lessons))


async def get(world: World, course_id: str):
    request = courses_pb2.GetCourseRequest(course_id=course_id)
    return (await world.one(world.item(f"{COURSES}/GetCourse", request))).course


async def test_a_course_reads_as_it_was_put(world: World) -> None:
    course = unique("course")
    video = {"lesson_id": "l2", "xp": 7, "video_seconds": 90.5, "min_watched_ratio": 0.8}
    modules = [module(f"{course}-b", "l1", video), module(f"{course}-a", "l1")]
    made = await world.one(put(world, course, *modules, specialization="PLAYER"))
    assert made.course.revision == 1
    assert list(made.course.modules) == modules
    assert await get(world, course) == made.course
    assert (await get(world, course)).specialization == "PLAYER"


async def test_the_same_course_again_makes_no_new_revision(world: World) -> None:
    course = unique("course")
    for _ in range(2):
        made = await world.one(put(world, course, module(f"{course}-m", "l1", "l2")))
        assert made.course.revision == 1
    made = await world.one(put(world, course, module(f"{course}-m", "l2", "l1")))
    assert made.course.revision == 2
    assert [each.lesson_id for each in (await get(world, course)).modules[0].lessons] == ["l2", "l1"]


async def test_lists_name_courses_without_their_modules(world: World) -> None:
    courses = sorted([(await world.course(modules=1)).course_id for _ in range(3)])
    seen: list[str] = []
    token = ""
    while True:
        request = courses_pb2.ListCoursesRequest(page_size=2, page_token=token)
        page = await world.one(world.item(f"{COURSES}/ListCourses", request))
        seen += [each.course_id for each in page.courses if each.course_id in courses]
        assert all(each.revision for each in page.courses)
        token = page.next_page_token
        if not token:
            break
    assert seen == courses


async def test_what_cannot_be_a_course_is_refused_beside_polite_neighbours(world: World) -> None:
    taken = await world.course(modules=1)
    many = [{"lesson_id": f"l{n}"} for n in range(500)]
    rude = {
        "a module twice": [module("rude-1", "l1"), module("rude-1", "l2")],
        "a lesson twice": [module("rude-2", "l1", "l1")],
        "a module of another course": [module(taken.names[0][0], "l1")],
        "a share of no video": [module("rude-3", {"lesson_id": "l1", "min_watched_ratio": 0.5})],
        "too many lessons": [module(f"rude-4-{n}", *many) for n in range(3)],
        "a NUL": [module("rude-5", "l1", title="a\0b")],
    }
    polite = [unique("course") for _ in range(2)]
    items = [put(world, polite[0], module(f"{polite[0]}-m", "l1"))]
    items += [put(world, unique("course"), *modules) for modules in rude.values()]
    items += [put(world, polite[1], module(f"{polite[1]}-m", "l1"))]
    first, *refused, last = reasons(await world.replica.send(items))
    assert dict(zip(rude, refused, strict=True)) == dict.fromkeys(rude, Reason.INVALID_ARGUMENT)
    assert (first, last) == (None, None)
    assert [(await get(world, each)).revision for each in polite] == [1, 1]


async def test_a_course_has_had_no_more_modules_than_the_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain, "MODULES_EVER_MAX", 3)
    course = unique("course")
    await world.one(put(world, course, module(f"{course}-1"), module(f"{course}-2")))
    made = await world.one(put(world, course, module(f"{course}-3")))
    with pytest.raises(ServiceError) as refused:
        await world.one(put(world, course, module(f"{course}-4")))
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert await get(world, course) == made.course
    again = await world.one(put(world, course, *(module(f"{course}-{number}") for number in (1, 2, 3))))
    assert again.course.revision == 3


async def test_two_courses_that_take_one_module_at_once_do_not_both_get_it(world: World) -> None:
    replica = await world.start()
    for _ in range(5):
        name = unique("module")
        items = [put(world, unique("course"), module(name, "l1")) for _ in range(2)]
        first, second = await asyncio.gather(world.replica.send(items[:1]), replica.send(items[1:]))
        outcomes = reasons([*first, *second])
        assert outcomes.count(None) == 1
        (refused,) = [each for each in outcomes if each is not None]
        assert refused in {Reason.INVALID_ARGUMENT, Reason.UNAVAILABLE}


async def test_changes_of_one_course_at_once_come_one_after_the_other(world: World) -> None:
    course = unique("course")
    items = [put(world, course, module(f"{course}-m", f"l{n}")) for n in range(8)]
    outcomes = await asyncio.gather(*(world.replica.send([item]) for item in items))
    revisions = sorted(body(items[0], outcome[0]).course.revision for outcome in outcomes)
    assert revisions == list(range(1, 9))


async def test_an_unknown_course_is_not_found(world: World) -> None:
    with pytest.raises(ServiceError) as refusal:
        await get(world, "nowhere")
    assert refusal.value.reason is Reason.NOT_FOUND
