"""Courses as they stand, read once per revision and kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping

import asyncpg

from chassis.postgres import Connection
from chassis.postgres.rows import from_row
from progress_service.domain.courses import CourseId, Edition, Lesson, LessonName, Module, Succession

# About 1 KiB each.
ROWS_KEPT_MAX = 100_000

# The four statements see one revision: the transaction or the loop below makes sure of that.
_COURSES = "SELECT course_id, revision, title, specialization FROM courses WHERE course_id = ANY($1::text[])"
_MODULES = """
    SELECT course_id, module_id, title
      FROM modules
     WHERE course_id = ANY($1::text[]) AND NOT removed
     ORDER BY position
"""
_LESSONS = """
    SELECT course_id, module_id, lesson_id, title, xp, video_seconds, min_watched_ratio, removed
      FROM lessons
     WHERE course_id = ANY($1::text[])
     ORDER BY position
"""
_SUCCESSIONS = """
    SELECT course_id, module_id, lesson_id, after_module_id, after_lesson_id, until_revision
      FROM lesson_successions
     WHERE course_id = ANY($1::text[])
"""
_REVISIONS = "SELECT course_id, revision FROM courses WHERE course_id = ANY($1::text[]) AND revision > 0"

LOOKS_MAX = 5


class EditionCache:
    """The newest edition that was read of each course, bounded; the least recently used goes first."""

    def __init__(self, *, rows_max: int = ROWS_KEPT_MAX) -> None:
        self._rows_max = rows_max
        self._rows_kept = 0
        self._editions: OrderedDict[str, Edition] = OrderedDict()

    async def get(self, connection: Connection, revisions: Mapping[str, int]) -> dict[str, Edition]:
        """The editions of these courses, each of this revision or a later one; unknown courses are absent."""
        found: dict[str, Edition] = {}
        missing: list[str] = []
        for course_id, revision in revisions.items():
            kept = self._editions.get(course_id)
            if kept is not None and kept.revision == revision:
                self._editions.move_to_end(course_id)
                found[course_id] = kept
            else:
                missing.append(course_id)
        if missing:
            for course_id, edition in (await read_editions(connection, missing)).items():
                self._keep(edition)
                found[course_id] = edition
        return found

    async def current(self, connection: Connection, course_ids: Collection[str]) -> dict[str, Edition]:
        """The editions of these courses as they stand now; unknown courses are absent."""
        rows = await connection.fetch(_REVISIONS, list(course_ids))
        return await self.get(connection, {row["course_id"]: row["revision"] for row in rows})

    def _keep(self, edition: Edition) -> None:
        dropped = self._editions.pop(edition.course_id, None)
        self._rows_kept += _rows_of(edition) - (_rows_of(dropped) if dropped is not None else 0)
        self._editions[edition.course_id] = edition
        while self._rows_kept > self._rows_max and len(self._editions) > 1:
            _, oldest = self._editions.popitem(last=False)
            self._rows_kept -= _rows_of(oldest)


def _rows_of(edition: Edition) -> int:
    return 1 + len(edition.modules) + len(edition.lessons) + len(edition.successions)


async def read_editions(connection: Connection, course_ids: Collection[str]) -> dict[str, Edition]:
    """These courses as they stand. A course that changes meanwhile is read again."""
    editions: dict[str, Edition] = {}
    wanted = set(course_ids)
    for _ in range(LOOKS_MAX):
        if not wanted:
            break
        before, editions_read = await _read(connection, sorted(wanted))
        after = {
            row["course_id"]: row["revision"] for row in await connection.fetch(_REVISIONS, list(wanted))
        }
        steady = {course_id for course_id in wanted if before.get(course_id) == after.get(course_id)}
        editions |= {course_id: editions_read[course_id] for course_id in steady & editions_read.keys()}
        wanted -= steady
    return editions


async def _read(
    connection: Connection, course_ids: Collection[str]
) -> tuple[dict[str, int], dict[str, Edition]]:
    wanted = list(course_ids)
    courses = [row for row in await connection.fetch(_COURSES, wanted) if row["revision"]]
    modules = _by_course(await connection.fetch(_MODULES, wanted))
    lessons = _by_course(await connection.fetch(_LESSONS, wanted))
    successions = _by_course(await connection.fetch(_SUCCESSIONS, wanted))
    editions = {
        row["course_id"]: _edition(
            row,
            modules.get(row["course_id"], []),
            lessons.get(row["course_id"], []),
            successions.get(row["course_id"], []),
        )
        for row in courses
    }
    return {row["course_id"]: row["revision"] for row in courses}, editions


def _by_course(rows: list[asyncpg.Record]) -> dict[str, list[asyncpg.Record]]:
    found: dict[str, list[asyncpg.Record]] = {}
    for row in rows:
        found.setdefault(row["course_id"], []).append(row)
    return found


def _edition(
    course: asyncpg.Record,
    modules: list[asyncpg.Record],
    lessons: list[asyncpg.Record],
    successions: list[asyncpg.Record],
) -> Edition:
    offered: dict[str, list[Lesson]] = {}
    removed: list[Lesson] = []
    for row in lessons:
        lesson = from_row(Lesson, row)
        if row["removed"]:
            removed.append(lesson)
        else:
            offered.setdefault(lesson.module_id, []).append(lesson)
    return Edition(
        course_id=CourseId(course["course_id"]),
        revision=course["revision"],
        title=course["title"],
        specialization=course["specialization"],
        modules=tuple(
            from_row(Module, row, lessons=tuple(offered.get(row["module_id"], ()))) for row in modules
        ),
        removed=tuple(removed),
        successions={
            Succession(
                LessonName(row["module_id"], row["lesson_id"]),
                LessonName(row["after_module_id"], row["after_lesson_id"]),
            ): row["until_revision"]
            for row in successions
        },
    )
