"""Courses: modules and lessons in their order, and what a change of that order leaves behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple, NewType

from chassis.errors import FieldViolation, Reason, ServiceError, invalid_field, invalid_fields

CourseId = NewType("CourseId", str)

UNKNOWN_COURSE = CourseId("")
"""Stands in a request about a lesson until the course of its module has been looked up."""

COURSES_MAX = 10_000
LESSONS_MAX = 1000
# With those that are no longer offered.
MODULES_EVER_MAX = 1000
LESSONS_EVER_MAX = 5000
SUCCESSIONS_MAX = 20_000


class LessonName(NamedTuple):
    """Names a lesson: a lesson that moves to another module becomes another lesson."""

    module_id: str
    lesson_id: str


START = LessonName("", "")
"""What the first lesson of a course comes after."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A lesson as the catalog has it. `min_watched_ratio` needs a video."""

    module_id: str
    lesson_id: str
    title: str
    xp: int
    video_seconds: float | None
    min_watched_ratio: float | None

    @property
    def name(self) -> LessonName:
        return LessonName(self.module_id, self.lesson_id)


@dataclass(frozen=True, slots=True)
class Module:
    """A module with its lessons in their order."""

    module_id: str
    title: str
    lessons: tuple[Lesson, ...]


@dataclass(frozen=True, slots=True)
class CourseDraft:
    """A course as an administrator wants it."""

    course_id: CourseId
    title: str
    specialization: str | None
    modules: tuple[Module, ...]


@dataclass(frozen=True, slots=True)
class CourseSummary:
    """A course without its modules."""

    course_id: str
    title: str
    specialization: str | None
    total_lessons: int
    revision: int


class Succession(NamedTuple):
    """One lesson directly after another, in some order that the course has or had."""

    lesson: LessonName
    after: LessonName


@dataclass(frozen=True)
class Edition:
    """A course at one revision. It never changes.

    `removed` are the lessons that the course offered earlier. `successions` has each succession that there
    ever was: None while it holds, else the first revision in which it did not hold any more.
    """

    course_id: CourseId
    revision: int
    title: str
    specialization: str | None
    modules: tuple[Module, ...]
    removed: tuple[Lesson, ...]
    successions: Mapping[Succession, int | None]

    @cached_property
    def order(self) -> tuple[LessonName, ...]:
        """The lessons on offer, in their order."""
        return tuple(lesson.name for module in self.modules for lesson in module.lessons)

    @cached_property
    def lessons(self) -> Mapping[LessonName, Lesson]:
        """Every lesson that there ever was."""
        offered = chain.from_iterable(module.lessons for module in self.modules)
        return {lesson.name: lesson for lesson in chain(self.removed, offered)}

    @cached_property
    def followers(self) -> Mapping[LessonName, Sequence[tuple[LessonName, int | None]]]:
        """The lessons that ever came directly after a lesson, each with the revision in which that ended."""
        found: dict[LessonName, list[tuple[LessonName, int | None]]] = {}
        for (lesson, after), until in self.successions.items():
            found.setdefault(after, []).append((lesson, until))
        return found

    @cached_property
    def predecessors(self) -> Mapping[LessonName, Sequence[tuple[LessonName, int | None]]]:
        """The lessons that ever came directly before a lesson, each with the revision in which that ended."""
        found: dict[LessonName, list[tuple[LessonName, int | None]]] = {}
        for (lesson, after), until in self.successions.items():
            found.setdefault(lesson, []).append((after, until))
        return found

    @cached_property
    def offered(self) -> frozenset[LessonName]:
        """The lessons on offer."""
        return frozenset(self.order)

    def after(self, name: LessonName) -> LessonName | None:
        """The lesson that comes after this one now; None at the end, and for a lesson no longer offered."""
        return self._next.get(name)

    @cached_property
    def _next(self) -> Mapping[LessonName, LessonName]:
        return dict(zip(self.order, self.order[1:], strict=False))


@dataclass(frozen=True, slots=True)
class CourseChange:
    """What a PUT makes of a course: the next edition, and the modules that are no longer offered."""

    edition: Edition
    removed_modules: frozenset[str]


def plan_course(
    draft: CourseDraft, current: Edition | None, owners: Mapping[str, str]
) -> CourseChange | None:
    """The change that makes the course what the draft says; None if it is that already.

    `owners` has the courses of those of the draft's modules that exist, and of all modules of this course.

    Raises:
        ServiceError: INVALID_ARGUMENT for ids that occur twice, a module of another course, or a bound.
    """
    _require_sound(draft, owners)
    if current is not None and _draft_of(current) == draft:
        return None
    revision = 1 if current is None else current.revision + 1
    order = [lesson.name for module in draft.modules for lesson in module.lessons]
    offered = set(order)
    known = {} if current is None else current.lessons
    edition = Edition(
        course_id=draft.course_id,
        revision=revision,
        title=draft.title,
        specialization=draft.specialization,
        modules=draft.modules,
        removed=tuple(lesson for name, lesson in known.items() if name not in offered),
        successions=_successions({} if current is None else current.successions, order, revision),
    )
    if len(edition.lessons) > LESSONS_EVER_MAX:
        raise invalid_field("modules", f"the course would have had more than {LESSONS_EVER_MAX} lessons")
    if len(edition.successions) > SUCCESSIONS_MAX:
        raise invalid_field("modules", "the order of the lessons was changed too often; make a new course")
    stays = {module.module_id for module in draft.modules}
    before = () if current is None else current.modules
    return CourseChange(edition, frozenset(m.module_id for m in before if m.module_id not in stays))


def _successions(
    before: Mapping[Succession, int | None], order: Sequence[LessonName], revision: int
) -> dict[Succession, int | None]:
    """Those that held before, ended where the new order does not have them, and those of the new order."""
    holding = dict.fromkeys(map(Succession, order, [START, *order[:-1]]))
    ended = {each: revision if until is None else until for each, until in before.items()}
    return {**ended, **holding}


def _draft_of(edition: Edition) -> CourseDraft:
    return CourseDraft(edition.course_id, edition.title, edition.specialization, edition.modules)


def _require_sound(draft: CourseDraft, owners: Mapping[str, str]) -> None:
    faults: list[FieldViolation] = []
    seen: set[str] = set()
    for place, module in enumerate(draft.modules):
        field = f"modules[{place}]"
        if module.module_id in seen:
            faults.append(FieldViolation(f"{field}.moduleId", "occurs twice"))
        seen.add(module.module_id)
        if owners.get(module.module_id, draft.course_id) != draft.course_id:
            faults.append(module_taken(f"{field}.moduleId"))
        faults += _faults_of_lessons(module.lessons, field)
    ours = {module_id for module_id, course_id in owners.items() if course_id == draft.course_id}
    if not seen <= ours and len(seen | ours) > MODULES_EVER_MAX:
        faults.append(
            FieldViolation("modules", f"the course would have had more than {MODULES_EVER_MAX} modules")
        )
    if sum(len(module.lessons) for module in draft.modules) > LESSONS_MAX:
        faults.append(FieldViolation("modules", f"a course has at most {LESSONS_MAX} lessons"))
    if faults:
        raise invalid_fields(faults[:20])


def _faults_of_lessons(lessons: Iterable[Lesson], field: str) -> list[FieldViolation]:
    faults: list[FieldViolation] = []
    seen: set[str] = set()
    for place, lesson in enumerate(lessons):
        if lesson.lesson_id in seen:
            faults.append(FieldViolation(f"{field}.lessons[{place}].lessonId", "occurs twice"))
        seen.add(lesson.lesson_id)
        if lesson.min_watched_ratio is not None and lesson.video_seconds is None:
            faults.append(FieldViolation(f"{field}.lessons[{place}].minWatchedRatio", "needs videoSeconds"))
    return faults


def module_taken(field: str = "modules") -> FieldViolation:
    """What is wrong with a module whose id another course has."""
    return FieldViolation(field, "a module with this id belongs to another course")


def no_such_course(course_id: str) -> ServiceError:
    return ServiceError(Reason.NOT_FOUND, "There is no such course", metadata={"courseId": course_id})


def no_such_lesson(name: LessonName) -> ServiceError:
    return ServiceError(
        Reason.NOT_FOUND,
        "There is no such lesson",
        metadata={"moduleId": name.module_id, "lessonId": name.lesson_id},
    )
