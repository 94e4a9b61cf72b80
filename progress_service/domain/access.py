"""Which lessons are open to a learner. What was open once stays open, whatever becomes of the course."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import NamedTuple

from chassis.errors import Reason, ServiceError
from chassis.frozen import quick
from progress_service.domain.courses import START, UNKNOWN_COURSE, CourseId, Edition, LessonName
from progress_service.domain.statistics import UserId


class Access(IntEnum):
    """What a lesson is to a learner: locked, or why it is open. The numbers are those of cached values."""

    PREREQUISITE_INCOMPLETE = 1
    FIRST_LESSON = 2
    PREREQUISITE_COMPLETED = 3
    STARTED = 4
    COMPLETED = 5

    @property
    def open(self) -> bool:
        return self is not Access.PREREQUISITE_INCOMPLETE


@quick
@dataclass(frozen=True, slots=True)
class Standing:
    """A learner in a course, as the database has it.

    `since_revision` is the course's revision at the enrollment, None without one. `completed` has the
    revision at which each lesson was completed. `version` is that of the learner's progress, `read_at` the
    database's clock. A reset begins an epoch at `reset_at`: everything here is of the current one, and
    `enrolled_before` tells whether there is an enrollment of an earlier one. `last_reset_at` is the last
    reset of anything that the learner has.
    """

    user_id: UserId
    course_id: CourseId
    version: int
    read_at: datetime
    completed: Mapping[LessonName, int]
    epoch: int = 0
    reset_at: datetime | None = None
    last_reset_at: datetime | None = None
    since_revision: int | None = None
    enrolled_before: bool = False
    enrolled_at: datetime | None = None
    finished_at: datetime | None = None
    started: frozenset[LessonName] = frozenset()


@quick
@dataclass(frozen=True, slots=True)
class CourseAccess:
    """Every lesson of a course and what it is to a learner: first those on offer, in their order.

    The first `offered` ones are on offer; the others were left out later, and are open to this learner. What
    is open to an enrolled learner stays open; without an enrollment another lesson may become the first one.
    """

    user_id: UserId
    course_id: CourseId
    version: int
    read_at: datetime
    enrolled: bool
    offered: int
    lessons: Mapping[LessonName, Access]

    @property
    def completed_lessons(self) -> int:
        return sum(access is Access.COMPLETED for access in self.lessons.values())

    @property
    def total_lessons(self) -> int:
        """The lessons on offer, and those completed before they were left out."""
        left_out = list(self.lessons.values())[self.offered :]
        return self.offered + sum(access is Access.COMPLETED for access in left_out)

    def same_as(self, other: CourseAccess) -> bool:
        """Whether both say the same, at whatever time they were read."""
        return (self.version, self.offered, self.lessons) == (other.version, other.offered, other.lessons)

    def locked(self, names: Iterable[LessonName]) -> list[LessonName]:
        """Those of these lessons that are not open, or not known here."""
        return [name for name in names if (access := self.of(name)) is None or not access.open]

    def of(self, name: LessonName) -> Access | None:
        """None if the course does not offer the lesson to this learner."""
        return self.lessons.get(name)


class Source(StrEnum):
    """Where an answer comes from."""

    CACHE = "cache"
    STORE = "store"


class AccessQuery(NamedTuple):
    """A learner's question about a lesson. The answer must not be older than `min_version`."""

    user_id: UserId
    name: LessonName
    min_version: int = 0
    course_id: CourseId = UNKNOWN_COURSE

    def within(self, course_id: CourseId) -> AccessQuery:
        """The same query with its course."""
        return AccessQuery(self.user_id, self.name, self.min_version, course_id)


class ProgressQuery(NamedTuple):
    """A learner's question about a course. The answer must not be older than `min_version`."""

    user_id: UserId
    course_id: CourseId
    min_version: int = 0


class AccessAnswer(NamedTuple):
    """What a course is to a learner, and where that comes from."""

    access: CourseAccess
    source: Source


def access_of(edition: Edition, standing: Standing) -> CourseAccess:
    """What each lesson of the course is to the learner.

    The first lesson is open, and each completed one, and each that came directly after a completed one at
    some moment since its completion. The same holds for what was first since the enrollment.
    """
    found: dict[LessonName, Access] = {}
    _open(found, _followers(edition, START, standing.since_revision), Access.FIRST_LESSON)
    for name, revision in standing.completed.items():
        _open(found, _followers(edition, name, revision), Access.PREREQUISITE_COMPLETED)
    _open(found, standing.started, Access.STARTED)
    found.update(dict.fromkeys(standing.completed, Access.COMPLETED))
    offered = {name: found.pop(name, Access.PREREQUISITE_INCOMPLETE) for name in edition.order}
    return CourseAccess(
        user_id=standing.user_id,
        course_id=standing.course_id,
        version=standing.version,
        read_at=standing.read_at,
        enrolled=standing.since_revision is not None,
        offered=len(offered),
        lessons=offered | {name: access for name, access in found.items() if name in edition.lessons},
    )


def access_to(
    edition: Edition,
    name: LessonName,
    *,
    since_revision: int | None,
    completed: Mapping[LessonName, int],
    started: Collection[LessonName],
) -> Access | None:
    """What one lesson is to a learner: the same as in `access_of`, without a look at all the others."""
    if name not in edition.lessons:
        return None
    if name in completed:
        return Access.COMPLETED
    before = edition.predecessors.get(name, ())
    if any(after == START and _held(until, since_revision) for after, until in before):
        return Access.FIRST_LESSON
    if any(after in completed and _held(until, completed[after]) for after, until in before):
        return Access.PREREQUISITE_COMPLETED
    if name in started:
        return Access.STARTED
    return Access.PREREQUISITE_INCOMPLETE if name in edition.offered else None


def _held(until: int | None, since: int | None) -> bool:
    """Whether a succession that ended with the revision `until`, if at all, held at this one or later."""
    return until is None or (since is not None and until > since)


def _followers(edition: Edition, after: LessonName, since: int | None) -> Iterable[LessonName]:
    """The lessons that came directly after this one at this revision, or at any later one."""
    for lesson, until in edition.followers.get(after, ()):
        if _held(until, since):
            yield lesson


def _open(found: dict[LessonName, Access], names: Iterable[LessonName], why: Access) -> None:
    for name in names:
        found.setdefault(name, why)


def lesson_locked(name: LessonName) -> ServiceError:
    return ServiceError(
        Reason.LESSON_LOCKED,
        "The lesson before it is not completed",
        metadata={"moduleId": name.module_id, "lessonId": name.lesson_id},
    )
