"""The check of locks: what is open to a learner is derived as for an answer, and compared with the rule."""

from __future__ import annotations

import time
from collections.abc import Iterator

from chassis.cache.clock import DatabaseClock
from chassis.diagnostics.checks import Check, Place, Scope, Step, reading
from chassis.diagnostics.findings import Finding, Severity
from chassis.postgres import Connection, Database
from progress_service.domain.access import access_to
from progress_service.domain.courses import CourseId, LessonName
from progress_service.domain.statistics import UserId
from progress_service.store.editions import EditionCache
from progress_service.store.repairs_courses import RESTORE_ORDER
from progress_service.store.standings import Attendance, Attended, StandingReader

LESSONS_SHOWN_MAX = 5
EDITIONS_KEPT_SECONDS = 60.0

_ENROLLMENTS = """
    SELECT user_id, course_id
      FROM enrollments
     WHERE {condition}
     ORDER BY user_id, course_id
     LIMIT $1
"""


class FalseLockWalk:
    """A walk through the enrollments. Courses are kept for a minute, so that many steps read them once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._editions = EditionCache()
        self._kept_since = 0.0

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""

        async def work(connection: Connection) -> tuple[list[Attendance], list[Attended]]:
            # The courses are read by statements of their own, in the snapshot of the standings.
            async with reading(connection, one_snapshot=True):
                listed = await list_enrollments(connection, scope, after, limit)
                reader = StandingReader(editions=self._kept(), clock=DatabaseClock())
                return listed, list((await reader.read(connection, listed)).values())

        listed, attended = await self._database.read(work, deadline=deadline, name="check_step")
        findings = [
            _finding(check, each, locked) for each in attended if (locked := list(_locked_falsely(each)))
        ]
        return Step(findings, len(listed), tuple(listed[-1]) if len(listed) == limit else None)

    def _kept(self) -> EditionCache:
        """What was read of courses. A change that keeps the revision of its course is no change of ours."""
        now = time.monotonic()
        if now - self._kept_since > EDITIONS_KEPT_SECONDS:
            self._editions, self._kept_since = EditionCache(), now
        return self._editions


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
    open_to_learner = {*edition.order[:1], *(name for name in standing.completed if name in edition.lessons)}
    open_to_learner |= {after for name in standing.completed if (after := edition.after(name)) is not None}
    for name in sorted(open_to_learner):
        access = access_to(
            edition,
            name,
            since_revision=standing.since_revision,
            completed=standing.completed,
            started=standing.started,
        )
        if access is None or not access.open:
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
