"""Learners in courses, read under their locks and written back with everything that has changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from chassis.postgres import Connection
from chassis.postgres.rows import as_rows, names
from progress_service.domain.completions import CourseBook
from progress_service.domain.earnings import Earned
from progress_service.domain.statistics import UserId
from progress_service.store.earning import earn
from progress_service.store.standings import Attendance, StandingReader

COMPLETION = """
    user_id text, course_id text, epoch integer, module_id text, lesson_id text, revision integer, xp integer,
    occurred_at timestamptz
"""
ENROLLMENT = """
    user_id text, course_id text, epoch integer, since_revision integer, completed_lessons integer
"""

# The learner is locked, so nobody else writes these rows. Within an epoch, a finished course stays finished.
# The foreign key of the completions is checked at the end of the statement.
_WRITE = f"""
    WITH completed AS (
        INSERT INTO lesson_completions ({names(COMPLETION)})
        SELECT {names(COMPLETION)}
          FROM json_to_recordset($2) AS completion ({COMPLETION})
    )
    INSERT INTO enrollments AS known ({names(ENROLLMENT)}, completed_at)
    SELECT {names(ENROLLMENT)}, CASE WHEN finished THEN clock_timestamp() END
      FROM json_to_recordset($1)
           AS enrollment (user_id text, course_id text, epoch integer, since_revision integer,
                          completed_lessons integer, finished boolean)
        ON CONFLICT ON CONSTRAINT enrollments_once DO UPDATE
           SET epoch = excluded.epoch, since_revision = excluded.since_revision,
               completed_lessons = excluded.completed_lessons,
               completed_at = CASE WHEN known.epoch = excluded.epoch
                                   THEN coalesce(known.completed_at, excluded.completed_at)
                                   ELSE excluded.completed_at END
    RETURNING user_id, course_id, enrolled_at, completed_at
"""

Books = Mapping[Attendance, CourseBook]


class Dates(NamedTuple):
    """When a learner enrolled in a course, and when they finished it."""

    enrolled_at: datetime
    completed_at: datetime | None


class Written(NamedTuple):
    """What the learners have earned, and the dates of the enrollments that were written."""

    earned: Mapping[UserId, Earned]
    dates: Mapping[Attendance, Dates]

    def version(self, book: CourseBook) -> int:
        """The version of the learner's progress now."""
        earned = self.earned.get(book.standing.user_id)
        return book.standing.version if earned is None else earned.version

    @property
    def levels_changed(self) -> bool:
        """Whether events about levels wait in the outbox."""
        return any(each.levels for each in self.earned.values())


async def read_books(
    connection: Connection, wanted: Collection[Attendance], standings: StandingReader
) -> dict[Attendance, CourseBook]:
    """These learners in these courses, who must be locked; without those whose course does not exist."""
    attended = await standings.read(connection, wanted)
    return {each: CourseBook(*found) for each, found in attended.items()}


async def write_books(connection: Connection, books: Books) -> Written:
    """Write what is new: enrollments, completions, and what they earn."""
    changed = {each: books[each] for each in sorted(books) if books[each].changed}
    if not changed:
        return Written({}, {})
    enrollments = await connection.fetch(
        _WRITE,
        as_rows(
            [
                {
                    "user_id": each.user_id,
                    "course_id": each.course_id,
                    "epoch": book.standing.epoch,
                    "since_revision": book.standing.since_revision or book.edition.revision,
                    "completed_lessons": len(book.completed),
                    "finished": book.finished,
                }
                for each, book in changed.items()
            ]
        ),
        as_rows([completion for book in changed.values() for completion in book.new]),
    )
    earned = await earn(connection, [earning for book in changed.values() for earning in book.earnings])
    return Written(
        earned,
        {
            Attendance(row["user_id"], row["course_id"]): Dates(row["enrolled_at"], row["completed_at"])
            for row in enrollments
        },
    )
