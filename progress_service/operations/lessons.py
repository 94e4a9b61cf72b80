"""Requests about lessons: each is given the course of its lesson's module."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from progress_service.domain.access import AccessQuery
from progress_service.domain.completions import CompletionRequest
from progress_service.domain.courses import no_such_lesson
from progress_service.domain.watching import WatchRequest
from progress_service.store.modules import ModuleStore

R = TypeVar("R", AccessQuery, CompletionRequest, WatchRequest)
T = TypeVar("T")


async def run_in_courses(
    items: Sequence[Item[R]],
    modules: ModuleStore,
    run: Callable[[Sequence[Item[R]]], Awaitable[Sequence[T]]],
) -> list[T | ServiceError]:
    """Run the requests with their courses; those of unknown modules are refused with NOT_FOUND."""
    courses = await modules.courses_of(
        {item.request.name.module_id for item in items}, deadline=latest_deadline(items)
    )
    known = [
        item.asking(item.request.within(course_id))
        for item in items
        if (course_id := courses.get(item.request.name.module_id)) is not None
    ]
    outcomes = await run(known) if known else ()
    if len(known) == len(items):
        return list(outcomes)
    following = iter(outcomes)
    return [
        next(following) if item.request.name.module_id in courses else no_such_lesson(item.request.name)
        for item in items
    ]
