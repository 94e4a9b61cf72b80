"""Enrollments: one row for a learner and a course."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from chassis.batch import Item, Outcome
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render
from chassis.postgres.rows import from_row
from chassis.rpc.paging import Page
from progress_service.domain.completions import CourseBook
from progress_service.domain.courses import no_such_course
from progress_service.domain.enrollments import Enrollment, EnrollRequest
from progress_service.domain.statistics import UserId
from progress_service.store.books import Written, read_books, write_books
from progress_service.store.learner_changes import Refusals, change_learners
from progress_service.store.learners import LearnerRows
from progress_service.store.standings import Attendance, StandingReader

# What belongs to an older epoch than the last reset does not count any more.
_LIST_ENROLLMENTS = """
    SELECT enrollment.user_id, enrollment.course_id, enrollment.enrolled_at,
           done.completed_lessons::integer AS completed_lessons,
           (course.total_lessons + done.removed)::integer AS total_lessons,
           CASE WHEN enrollment.epoch = reset.epoch THEN enrollment.completed_at END AS completed_at,
           totals.version
      FROM enrollments AS enrollment
      JOIN courses AS course ON course.course_id = enrollment.course_id
      JOIN learner_statistics AS totals ON totals.user_id = enrollment.user_id
     CROSS JOIN LATERAL (SELECT coalesce(max(epoch), 0) AS epoch
                           FROM progress_resets
                          WHERE user_id = enrollment.user_id
                            AND (scope = 'all'
                                 OR (scope = 'course' AND name = enrollment.course_id))) AS reset
     CROSS JOIN LATERAL (SELECT count(*) AS completed_lessons,
                                count(*) FILTER (WHERE lesson.removed) AS removed
                           FROM lesson_completions AS completion
                           JOIN lessons AS lesson ON lesson.module_id = completion.module_id
                                                 AND lesson.lesson_id = completion.lesson_id
                          WHERE completion.user_id = enrollment.user_id
                            AND completion.course_id = enrollment.course_id
                            AND completion.epoch = reset.epoch) AS done
     WHERE enrollment.user_id = $1 AND enrollment.course_id > $2
     ORDER BY enrollment.course_id
     LIMIT $3
"""


class EnrollmentStore:
    """Raises what `Database` raises. `wake_relay` is called after a commit with events."""

    def __init__(
        self, *, database: Database, standings: StandingReader, wake_relay: Callable[[], object]
    ) -> None:
        self._database = database
        self._learners = LearnerRows(database)
        self._standings = standings
        self._wake_relay = wake_relay

    async def ensure_learners(
        self, user_ids: Collection[UserId], *, certainly: bool, deadline: float
    ) -> None:
        """Give each learner a row of totals, as `LearnerRows` does; `enroll` needs it."""
        await self._learners.ensure(user_ids, certainly=certainly, deadline=deadline)

    async def enroll(
        self,
        items: Sequence[Item[EnrollRequest]],
        wait: bool,
        *,
        refusals: Refusals,
        render: Render[Enrollment],
    ) -> list[Outcome | Locked]:
        """Enroll each, once per key. Who is enrolled already stays so."""
        levels_changed = False

        async def decide(
            connection: Connection, items: Sequence[Item[EnrollRequest]]
        ) -> list[Enrollment | ServiceError]:
            nonlocal levels_changed
            books = await read_books(
                connection, {Attendance(*item.request) for item in items}, self._standings
            )
            for each in books.values():
                each.enroll()
            written = await write_books(connection, books)
            levels_changed = written.levels_changed
            return [
                no_such_course(item.request.course_id)
                if (book := books.get(Attendance(*item.request))) is None
                else _enrollment(book, written)
                for item in items
            ]

        outcomes = await change_learners(
            self._database, items, decide, refusals=refusals, wait=wait, render=render, name="enroll"
        )
        if levels_changed:
            self._wake_relay()
        return outcomes

    async def list_enrollments(self, item: Item[UserId], page: Page) -> list[Enrollment]:
        """A learner's enrollments by course."""
        (after,) = page.after or ("",)

        async def work(connection: Connection) -> list[Enrollment]:
            rows = await connection.fetch(_LIST_ENROLLMENTS, item.request, after, page.limit)
            return [from_row(Enrollment, row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_enrollments")


def _enrollment(book: CourseBook, written: Written) -> Enrollment:
    standing = book.standing
    dates = written.dates.get(Attendance(standing.user_id, standing.course_id))
    return Enrollment(
        user_id=standing.user_id,
        course_id=standing.course_id,
        enrolled_at=dates.enrolled_at if dates is not None else standing.enrolled_at or standing.read_at,
        completed_lessons=len(book.completed),
        total_lessons=book.total_lessons,
        completed_at=dates.completed_at if dates is not None else standing.finished_at,
        version=written.version(book),
    )
