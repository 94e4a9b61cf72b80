"""Learners in courses: everything that decides which lessons are open, from one statement."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

import asyncpg
import orjson

from chassis.cache.clock import DatabaseClock
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows
from progress_service.domain.access import CourseAccess, Standing, access_of
from progress_service.domain.courses import CourseId, Edition, LessonName
from progress_service.domain.statistics import UserId
from progress_service.store.editions import EditionCache

# statement_timestamp() is not later than the snapshot, so a value is never younger than it says.
_READ_STANDINGS = """
    SELECT wanted.user_id, wanted.course_id, course.revision, coalesce(totals.version, 0) AS version,
           statement_timestamp() AS read_at, reset.epoch, reset.reset_at, reset.last_reset_at,
           enrollment.epoch AS enrollment_epoch, enrollment.since_revision, enrollment.enrolled_at,
           enrollment.completed_at, done.lessons AS completed, begun.lessons AS started
      FROM json_to_recordset($1) AS wanted (user_id text, course_id text)
     CROSS JOIN LATERAL (SELECT revision
                           FROM courses
                          WHERE course_id = wanted.course_id AND revision > 0
                          LIMIT 1) AS course
      LEFT JOIN LATERAL (SELECT version
                           FROM learner_statistics
                          WHERE user_id = wanted.user_id
                          LIMIT 1) AS totals ON true
     CROSS JOIN LATERAL (SELECT coalesce(max(epoch) FILTER (WHERE ours), 0) AS epoch,
                                max(reset_at) FILTER (WHERE ours) AS reset_at,
                                max(reset_at) AS last_reset_at
                           FROM progress_resets
                          CROSS JOIN LATERAL (
                                SELECT scope = 'all' OR (scope = 'course' AND name = wanted.course_id) AS ours
                                ) AS scoped
                          WHERE user_id = wanted.user_id) AS reset
      LEFT JOIN LATERAL (SELECT epoch, since_revision, enrolled_at, completed_at
                           FROM enrollments
                          WHERE user_id = wanted.user_id AND course_id = wanted.course_id
                          LIMIT 1) AS enrollment ON true
     CROSS JOIN LATERAL (SELECT json_agg(json_build_array(module_id, lesson_id, revision))::text AS lessons
                           FROM lesson_completions
                          WHERE user_id = wanted.user_id AND course_id = wanted.course_id
                            AND epoch = reset.epoch) AS done
     CROSS JOIN LATERAL (SELECT json_agg(json_build_array(module_id, lesson_id))::text AS lessons
                           FROM watched_videos
                          WHERE user_id = wanted.user_id AND course_id = wanted.course_id
                            AND epoch = reset.epoch) AS begun
"""


class Attendance(NamedTuple):
    """A learner and a course."""

    user_id: UserId
    course_id: CourseId


class Attended(NamedTuple):
    """A learner in a course, and the course as it stands."""

    edition: Edition
    standing: Standing


class StandingReader:
    """Reads on a connection, inside or outside of a transaction."""

    def __init__(self, *, editions: EditionCache, clock: DatabaseClock) -> None:
        self._editions = editions
        self._clock = clock

    async def read(
        self, connection: Connection, wanted: Collection[Attendance]
    ) -> dict[Attendance, Attended]:
        """Each of these learners in the course; without those whose course does not exist."""
        if not wanted:
            return {}
        asked_at = time.monotonic()
        rows = await connection.fetch(_READ_STANDINGS, as_rows([each._asdict() for each in set(wanted)]))
        for row in rows[:1]:
            self._clock.learn(row["read_at"], asked_at=asked_at)
        courses = await self._editions.get(connection, {row["course_id"]: row["revision"] for row in rows})
        found = {Attendance(UserId(row["user_id"]), CourseId(row["course_id"])): row for row in rows}
        return {
            each: Attended(courses[each.course_id], _standing(each, row))
            for each, row in found.items()
            if each.course_id in courses
        }


class StandingStore:
    """Reads outside of transactions. Raises what `Database` raises."""

    def __init__(self, *, database: Database, standings: StandingReader) -> None:
        self._database = database
        self._standings = standings

    async def read_access(
        self, wanted: Collection[Attendance], *, deadline: float
    ) -> Mapping[Attendance, CourseAccess]:
        """What the lessons of each course are to the learner; unknown courses are absent."""

        async def work(connection: Connection) -> dict[Attendance, Attended]:
            return await self._standings.read(connection, wanted)

        attended = await self._database.read(work, deadline=deadline, name="read_access")
        return {each: access_of(*found) for each, found in attended.items()}


def _standing(each: Attendance, row: asyncpg.Record) -> Standing:
    current = row["enrollment_epoch"] == row["epoch"]
    return Standing(
        user_id=each.user_id,
        course_id=each.course_id,
        version=row["version"],
        read_at=row["read_at"],
        epoch=row["epoch"],
        reset_at=row["reset_at"],
        last_reset_at=row["last_reset_at"],
        since_revision=row["since_revision"] if current else None,
        enrolled_before=row["enrollment_epoch"] is not None,
        enrolled_at=row["enrolled_at"],
        finished_at=row["completed_at"] if current else None,
        completed=completed_in(row),
        started=started_in(row),
    )


def completed_in(row: asyncpg.Record) -> dict[LessonName, int]:
    """The completed lessons of a row, each with the revision of the course at its completion."""
    return {
        LessonName(module_id, lesson_id): revision
        for module_id, lesson_id, revision in orjson.loads(row["completed"] or "[]")
    }


def started_in(row: asyncpg.Record) -> frozenset[LessonName]:
    """The lessons of a row of whose videos something was watched."""
    return frozenset(LessonName(*name) for name in orjson.loads(row["started"] or "[]"))
