"""Which lessons are open: from the cache where that is safe, and never a lock that the database denies.

The cache may be older than the database. What was open then is open now, so its "open" stands. Its "locked"
may be wrong, and is always asked of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.telemetry.metrics import Metrics
from progress_service.domain.access import AccessAnswer, AccessQuery, CourseAccess, ProgressQuery, Source
from progress_service.domain.courses import LessonName, no_such_course, no_such_lesson
from progress_service.operations.lessons import run_in_courses
from progress_service.store.access_cache import AccessCache, CachedAccess
from progress_service.store.modules import ModuleStore
from progress_service.store.standings import Attendance, StandingStore

Q = TypeVar("Q", AccessQuery, ProgressQuery)


class AccessOperations:
    """The operations that read access and progress."""

    def __init__(
        self, *, standings: StandingStore, modules: ModuleStore, cache: AccessCache, metrics: Metrics
    ) -> None:
        self._standings = standings
        self._modules = modules
        self._cache = cache
        self._answers = metrics.counter(
            "access_answers", "Answers about open lessons, by where they come from.", ("source",)
        )
        self._false_locks = metrics.counter(
            "access_false_locks",
            "Lessons that the cache had as locked and the database as open; no client was told so.",
        )

    async def get_access(self, items: Sequence[Item[AccessQuery]]) -> list[AccessAnswer | ServiceError]:
        """Whether each lesson is open to its learner; NOT_FOUND for a lesson that is not offered to them."""
        return await run_in_courses(items, self._modules, self._access)

    async def get_progress(self, items: Sequence[Item[ProgressQuery]]) -> list[AccessAnswer | ServiceError]:
        """Each course as it is to its learner; NOT_FOUND for a course that does not exist."""
        answers = await self._answered(items, lambda _, access: access.lessons)
        return [answers.get(_attendance(item)) or no_such_course(item.request.course_id) for item in items]

    async def _access(self, items: Sequence[Item[AccessQuery]]) -> list[AccessAnswer | ServiceError]:
        answers = await self._answered(items, lambda query, _: [query.name])
        return [
            answer
            if (answer := answers.get(_attendance(item))) is not None
            and answer.access.of(item.request.name) is not None
            else no_such_lesson(item.request.name)
            for item in items
        ]

    async def _answered(
        self, items: Sequence[Item[Q]], asked_for: Callable[[Q, CourseAccess], Iterable[LessonName]]
    ) -> dict[Attendance, AccessAnswer]:
        """What each course is to each learner: from the cache if all lessons that are asked for are open."""
        queries: dict[Attendance, list[Q]] = {}
        for item in items:
            queries.setdefault(_attendance(item), []).append(item.request)
        cached = await self._cache.read(
            {each: max(query.min_version for query in asked) for each, asked in queries.items()}
        )
        answers: dict[Attendance, AccessAnswer] = {}
        locked: dict[Attendance, set[LessonName]] = {}
        from_cache = 0
        for each, asked in queries.items():
            if (access := cached[each].access) is not None:
                names = [name for query in asked for name in asked_for(query, access)]
                if names_locked := access.locked(names):
                    locked[each] = set(names_locked)
                else:
                    answers[each] = AccessAnswer(access, Source.CACHE)
                    from_cache += len(asked)
        if from_cache:
            self._answers.add(Source.CACHE.value, amount=from_cache)
        missing = queries.keys() - answers.keys()
        if missing:
            read = await self._standings.read_access(missing, deadline=latest_deadline(items))
            self._compare(read, cached, locked)
            answers |= {each: AccessAnswer(access, Source.STORE) for each, access in read.items()}
            self._answers.add(Source.STORE.value, amount=sum(len(queries[each]) for each in read))
        return answers

    def _compare(
        self,
        read: Mapping[Attendance, CourseAccess],
        cached: Mapping[Attendance, CachedAccess],
        locked: Mapping[Attendance, set[LessonName]],
    ) -> None:
        """Count the locks that the cache had wrong, and bring it up to date in the background."""
        for each, access in read.items():
            if names := locked.get(each):
                self._false_locks.add(amount=len(names) - len(access.locked(names)))
        self._cache.refresh_soon(
            [
                (access, cached[each].reading)
                for each, access in read.items()
                if (known := cached[each].access) is None or not known.same_as(access)
            ]
        )


def _attendance(item: Item[AccessQuery] | Item[ProgressQuery]) -> Attendance:
    return Attendance(item.request.user_id, item.request.course_id)
