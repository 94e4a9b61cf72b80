"""Courses in the database: changed under a lock of the course, read through the editions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, from_row, names
from chassis.rpc.paging import Page
from progress_service.domain.courses import (
    COURSES_MAX,
    CourseChange,
    CourseDraft,
    CourseSummary,
    Edition,
    plan_course,
)
from progress_service.store.editions import EditionCache, read_editions

# How long to wait for a course that another transaction has locked.
WAITING_MS_MAX = 1000
PASSING_OVER_MS = 20

MODULE = "module_id text, course_id text, title text, position integer, removed boolean"
LESSON = """
    module_id text, lesson_id text, course_id text, title text, xp integer, video_seconds double precision,
    min_watched_ratio double precision, position integer, removed boolean
"""
SUCCESSION = """
    course_id text, module_id text, lesson_id text, after_module_id text, after_lesson_id text,
    until_revision integer
"""


class CourseStore:
    """Raises what `Database` raises."""

    def __init__(self, *, database: Database, editions: EditionCache) -> None:
        self._database = database
        self._editions = editions

    async def put_course(self, draft: CourseDraft, *, wait: bool, deadline: float) -> Edition:
        """Make the course what the draft says; a draft that says nothing new makes no new revision.

        Raises:
            LockTimeout: the course is locked: now, or with `wait` for too long.
            ServiceError: what `plan_course` raises.
        """

        async def work(connection: Connection) -> Edition:
            await _lock(connection, draft.course_id)
            current = (await read_editions(connection, [draft.course_id])).get(draft.course_id)
            rows = await connection.fetch(
                """
                SELECT module_id, course_id FROM modules WHERE module_id = ANY($1::text[])
                 UNION
                SELECT module_id, course_id FROM modules WHERE course_id = $2
                """,
                [module.module_id for module in draft.modules],
                draft.course_id,
            )
            change = plan_course(draft, current, {row["module_id"]: row["course_id"] for row in rows})
            if change is not None:
                await _write(connection, change)
                return change.edition
            if current is None:
                raise ValueError("a course without an edition always changes")
            return current

        return await self._database.write(
            work,
            deadline=deadline,
            lock_timeout_ms=WAITING_MS_MAX if wait else PASSING_OVER_MS,
            name="put_course",
        )

    async def get_courses(self, course_ids: Collection[str], *, deadline: float) -> dict[str, Edition]:
        """These courses as they stand now; those that do not exist are absent."""

        async def work(connection: Connection) -> dict[str, Edition]:
            return await self._editions.current(connection, course_ids)

        return await self._database.read(work, deadline=deadline, name="get_courses")

    async def list_courses(self, item: Item[None], page: Page) -> list[CourseSummary]:
        """Courses by id."""
        (after,) = page.after or ("",)

        async def work(connection: Connection) -> list[CourseSummary]:
            rows = await connection.fetch(_LIST_COURSES, after, page.limit)
            return [from_row(CourseSummary, row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_courses")


_LIST_COURSES = """
    SELECT course_id, title, specialization, total_lessons, revision
      FROM courses
     WHERE course_id > $1 AND revision > 0
     ORDER BY course_id
     LIMIT $2
"""

# NO KEY: learners may still enroll, which refers to the course.
_LOCK_COURSE = "SELECT true FROM courses WHERE course_id = $1 FOR NO KEY UPDATE"

_UPDATE_COURSE = """
    UPDATE courses
       SET title = $2, specialization = $3, revision = $4, total_lessons = $5, updated_at = clock_timestamp()
     WHERE course_id = $1
"""

_WRITE_MODULES = f"""
    INSERT INTO modules ({names(MODULE)})
    SELECT {names(MODULE)}
      FROM json_to_recordset($1) AS module ({MODULE})
        ON CONFLICT ON CONSTRAINT modules_of_one_course DO UPDATE
           SET title = excluded.title, position = excluded.position, removed = excluded.removed
         WHERE modules.course_id = excluded.course_id
    RETURNING 1
"""

_REMOVE_MODULES = "UPDATE modules SET removed = true WHERE module_id = ANY($1::text[])"

_WRITE_LESSONS = f"""
    INSERT INTO lessons ({names(LESSON)})
    SELECT {names(LESSON)}
      FROM json_to_recordset($1) AS lesson ({LESSON})
        ON CONFLICT ON CONSTRAINT lessons_once DO UPDATE
           SET title = excluded.title, xp = excluded.xp, video_seconds = excluded.video_seconds,
               min_watched_ratio = excluded.min_watched_ratio, position = excluded.position,
               removed = excluded.removed
         WHERE (lessons.title, lessons.xp, lessons.video_seconds, lessons.min_watched_ratio, lessons.position,
                lessons.removed)
               IS DISTINCT FROM (excluded.title, excluded.xp, excluded.video_seconds,
                                 excluded.min_watched_ratio, excluded.position, excluded.removed)
"""

_WRITE_SUCCESSIONS = f"""
    INSERT INTO lesson_successions ({names(SUCCESSION)})
    SELECT {names(SUCCESSION)}
      FROM json_to_recordset($1) AS succession ({SUCCESSION})
        ON CONFLICT ON CONSTRAINT lesson_successions_once DO UPDATE
           SET until_revision = excluded.until_revision
         WHERE lesson_successions.until_revision IS DISTINCT FROM excluded.until_revision
"""


async def _lock(connection: Connection, course_id: str) -> None:
    """Lock the course; make it if there is none and there is room for one more."""
    if await connection.fetchval(_LOCK_COURSE, course_id):
        return
    if await connection.fetchval("SELECT count(*) FROM courses") >= COURSES_MAX:
        raise ServiceError(
            Reason.INVALID_ARGUMENT, f"There are {COURSES_MAX} courses, as many as there may be"
        )
    await connection.execute("INSERT INTO courses (course_id) VALUES ($1) ON CONFLICT DO NOTHING", course_id)
    await connection.fetchval(_LOCK_COURSE, course_id)


async def _write(connection: Connection, change: CourseChange) -> None:
    edition = change.edition
    course_id = edition.course_id
    written = await connection.fetch(
        _WRITE_MODULES,
        as_rows(
            [
                {
                    "module_id": module.module_id,
                    "course_id": course_id,
                    "title": module.title,
                    "position": position,
                    "removed": False,
                }
                for position, module in enumerate(edition.modules)
            ]
        ),
    )
    if len(written) != len(edition.modules):
        # Another course made the module between our look and our write. The next look names it.
        raise ServiceError(Reason.UNAVAILABLE, "Another course took one of the modules at this moment")
    await connection.execute(_REMOVE_MODULES, sorted(change.removed_modules))
    position_of = {name: position for position, name in enumerate(edition.order)}
    last = len(position_of)
    lessons = [
        asdict(lesson)
        | {
            "course_id": course_id,
            "position": position_of.get(name, last),
            "removed": name not in position_of,
        }
        for name, lesson in edition.lessons.items()
    ]
    await connection.execute(_WRITE_LESSONS, as_rows(lessons))
    await connection.execute(
        _WRITE_SUCCESSIONS,
        as_rows(
            [
                {
                    "course_id": course_id,
                    "module_id": lesson.module_id,
                    "lesson_id": lesson.lesson_id,
                    "after_module_id": after.module_id,
                    "after_lesson_id": after.lesson_id,
                    "until_revision": until,
                }
                for (lesson, after), until in edition.successions.items()
            ]
        ),
    )
    await connection.execute(
        _UPDATE_COURSE,
        course_id,
        edition.title,
        edition.specialization,
        edition.revision,
        len(edition.order),
    )
