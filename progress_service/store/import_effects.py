"""What imported rows come to: XP, granted levels and completed lessons, each only if it is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from chassis.errors import Reason
from chassis.postgres import Connection
from chassis.postgres.rows import as_rows
from progress_service.domain.courses import CourseId, LessonName, no_such_lesson
from progress_service.domain.earnings import Gain
from progress_service.domain.imported_rows import CompletionRow, MergedRows, Note, Standing
from progress_service.domain.statistics import UserId
from progress_service.store.books import read_books, write_books
from progress_service.store.earning import earn
from progress_service.store.granting import grant
from progress_service.store.learners import add_learners, lock_learners
from progress_service.store.standings import Attendance, StandingReader

# The epochs of these specializations now, the moments at which they began, and the levels granted since.
_EPOCHS = """
    SELECT wanted.user_id, wanted.specialization, coalesce(reset.epoch, 0) AS epoch, reset.reset_at,
           coalesce(progress.granted_level, 0) AS granted_level
      FROM json_to_recordset($1) AS wanted (user_id text, specialization text)
     CROSS JOIN LATERAL (SELECT max(epoch) AS epoch, max(reset_at) AS reset_at
                           FROM progress_resets
                          WHERE user_id = wanted.user_id
                            AND (scope = 'all' OR (scope = 'specialization' AND name = wanted.specialization))
                        ) AS reset
      LEFT JOIN LATERAL (SELECT granted_level
                           FROM specialization_progress
                          WHERE user_id = wanted.user_id
                            AND specialization || '' = wanted.specialization  -- see `raise_levels`
                          LIMIT 1) AS progress ON true
"""


class Epoch(NamedTuple):
    """A learner's epoch in a specialization, when it began, and the level granted in it."""

    number: int
    reset_at: datetime | None
    granted_level: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What a merge has changed, and the rows that the database refuses."""

    xp: int
    levels: int
    completions: int
    notes: list[Note]


async def apply_rows(
    connection: Connection, merged: MergedRows, user_ids: Sequence[UserId], standings: StandingReader
) -> Applied:
    """Write what the rows of these learners come to, inside the caller's transaction.

    XP that the ledger has, levels that are reached, and lessons that are completed change nothing.
    """
    await add_learners(connection, user_ids)
    await lock_learners(connection, user_ids, wait=True)
    epochs = await _read_epochs(connection, merged.standings)
    notes: list[Note] = []
    gains: list[Gain] = []
    for standing in merged.standings:
        epoch = epochs[standing.user_id, standing.specialization]
        winner, others = standing.settled(epoch.reset_at)
        notes += others
        if winner is not None and winner.level > epoch.granted_level:
            gains.append(
                Gain(
                    user_id=standing.user_id,
                    specialization=standing.specialization,
                    granted_level=winner.level,
                    epoch=epoch.number,
                )
            )
    earned = await earn(connection, merged.earnings, tell=False)
    granted = await grant(connection, gains, tell=False)
    completions = await _complete(connection, merged.completions, standings, notes)
    raised = {
        (change.user_id, change.specialization)
        for change in [*granted, *(level for each in earned.values() for level in each.levels)]
        if change.reached
    }
    return Applied(
        xp=sum(each.xp for each in earned.values()),
        levels=len(raised),
        completions=completions,
        notes=notes,
    )


async def _read_epochs(
    connection: Connection, standings: Sequence[Standing]
) -> Mapping[tuple[UserId, str], Epoch]:
    wanted = [{"user_id": each.user_id, "specialization": each.specialization} for each in standings]
    rows = await connection.fetch(_EPOCHS, as_rows(wanted))
    return {
        (UserId(row["user_id"]), row["specialization"]): Epoch(
            row["epoch"], row["reset_at"], row["granted_level"]
        )
        for row in rows
    }


async def _complete(
    connection: Connection, rows: Sequence[CompletionRow], standings: StandingReader, notes: list[Note]
) -> int:
    """Complete these lessons, in the order of their times; how many of them were not completed before."""
    if not rows:
        return 0
    courses = {
        row["module_id"]: CourseId(row["course_id"])
        for row in await connection.fetch(
            "SELECT module_id, course_id FROM modules WHERE module_id = ANY($1::text[])",
            list({row.module_id for row in rows}),
        )
    }
    wanted = {Attendance(row.user_id, courses[row.module_id]) for row in rows if row.module_id in courses}
    books = await read_books(connection, wanted, standings)
    first_lines: dict[tuple[UserId, str, str], int] = {}
    for row in rows:
        course_id = courses.get(row.module_id)
        book = None if course_id is None else books.get(Attendance(row.user_id, course_id))
        lesson = row.user_id, row.module_id, row.lesson_id
        if lesson in first_lines:
            notes.append(row.repeated(first_lines[lesson]))
            continue
        refusal = (
            no_such_lesson(LessonName(row.module_id, row.lesson_id))
            if book is None
            else book.take_over(LessonName(row.module_id, row.lesson_id), row.happened_at)
        )
        if refusal is None or refusal.reason is Reason.NOT_FOUND:
            first_lines[lesson] = row.line
        if refusal is not None:
            notes.append(row.unknown() if refusal.reason is Reason.NOT_FOUND else row.overtaken())
    await write_books(connection, books)
    return sum(len(book.new) for book in books.values())
