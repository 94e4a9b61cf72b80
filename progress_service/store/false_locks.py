"""The check of locks: what is open to a learner is derived as for an answer, and compared with the rule."""

from __future__ import annotations

from collections.abc import Iterator

from chassis.cache.clock import DatabaseClock
from chassis.diagnostics.checks import Check, Place, Scope, Step, begin_reading
from chassis.diagnostics.findings import Finding, Severity
from chassis.postgres import Connection, Database
from progress_service.domain.access import access_of
from progress_service.domain.courses import CourseId, LessonName
from progress_service.domain.statistics import UserId
from progress_service.store.editions import EditionCache
from progress_service.store.repairs_courses import RESTORE_ORDER
from progress_service.store.standings import Attendance, Attended, StandingReader

LESSONS_SHOWN_MAX = 5

_ENROLLMENTS = """
    SELECT user_id, course_id
      FROM enrollments
     WHERE {condition}
     ORDER BY user_id, course_id
     LIMIT $1
"""


class FalseLockWalk:
    """A walk through the enrollments. Nothing comes from a cache, not even the courses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""

        async def work(connection: Connection) -> tuple[list[Attendance], list[Attended]]:
            # The courses are read by statements of their own, in the snapshot of the standings.
            async with connection.transaction(readonly=True, isolation="repeatable_read"):
                await begin_reading(connection)
                listed = await list_enrollments(connection, scope, after, limit)
                reader = StandingReader(editions=EditionCache(), clock=DatabaseClock())
                return listed, list((await reader.read(connection, listed)).values())

        listed, attended = await self._database.read(work, deadline=deadline, name="check_step")
        findings = [
            _finding(check, each, locked) for each in attended if (locked := list(_locked_falsely(each)))
        ]
        return Step(findings, len(listed), tuple(listed[-1]) if len(listed) == limit else None)


async def list_enrollments(
    connection: Connection, scope: Scope, after: Place | None, limit: int
) -> list[Attendance]:
    """The next enrollments behind a place: of all learners, or of one."""
    condition, arguments = "true", list[object]([limit])
    if scope.user_id:
        condition, arguments = "user_id = $2", [limit, scope.user_id]
    if after is not None:
        first = len(arguments) + 1
        condition += f" AND (user_id, course_id) > (${first}, ${first + 1})"
        arguments += after
    rows = await connection.fetch(_ENROLLMENTS.format(condition=condition), *arguments)
    return [Attendance(UserId(row["user_id"]), CourseId(row["course_id"])) for row in rows]


def _locked_falsely(attended: Attended) -> Iterator[LessonName]:
    """The lessons that are locked although they are the first one, completed, or after a completed one.

    A completed lesson that the course does not know is another fault.
    """
    edition, standing = attended
    access = access_of(edition, standing)
    for before, name in zip((None, *edition.order), edition.order, strict=False):
        found = access.of(name)
        is_open = found is not None and found.open
        if not is_open and (before is None or before in standing.completed or name in standing.completed):
            yield name
    for name in standing.completed.keys() - edition.offered:
        found = access.of(name)
        if name in edition.lessons and (found is None or not found.open):
            yield name


def _finding(check: Check, attended: Attended, locked: list[LessonName]) -> Finding:
    standing = attended.standing
    return Finding(
        check=check.check_id,
        severity=check.severity,
        observed=f"{len(locked)} lessons are locked",
        expected="open, because the lesson before it is completed",
        user_id=standing.user_id,
        row={"user_id": standing.user_id, "course_id": standing.course_id},
        evidence={
            "lessons": ", ".join(" ".join(name) for name in locked[:LESSONS_SHOWN_MAX]),
            "revision": str(attended.edition.revision),
            "version": str(standing.version),
        },
    )


def lock_checks(database: Database) -> list[Check]:
    """The check of locks."""
    return [
        Check(
            check_id="progress.false_lock",
            severity=Severity.CRITICAL,
            meaning="The learner has completed a lesson, and the next one stays locked.",
            repairs=(RESTORE_ORDER,),
            walk=FalseLockWalk(database),
        )
    ]
