"""Completions that are written optimistically: read without locks, and written where that is still so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from chassis.batch import Item, latest_deadline
from chassis.cache.clock import DatabaseClock
from chassis.postgres import PATIENCE, Connection, Database
from chassis.postgres.idempotency import (
    COMPLETED_CALL,
    STORED_OF_WANTED,
    CompletedCall,
    claim_from,
    claim_rows,
)
from chassis.postgres.rows import as_rows
from progress_service.domain.access import Standing
from progress_service.domain.completions import CompletionRequest, CourseBook, Draft
from progress_service.domain.statistics import UserId
from progress_service.store.editions import EditionCache
from progress_service.store.standings import Attended, completed_in, started_in

# More than any learner ever has. Stands for "there is no level above this one".
_ENDLESS_XP = 1_000_000_000_000

# A learner who has resets, and a key that is in use, are left to the transaction with locks. So here
# everything is of epoch 0. The LIMIT makes each lookup one probe of an index. `specialization || ''`: see
# `raise_levels`.
_READ_FACTS = f"""
    SELECT stored.state IS NOT NULL OR totals.epoch > 0 AS left_out, totals.version, totals.row_version,
           statement_timestamp() AS read_at, course.revision,
           enrollment.since_revision, enrollment.enrolled_at, enrollment.completed_at,
           done.lessons AS completed, begun.lessons AS started,
           progress.version AS progress_version, progress.xp_left
      FROM json_to_recordset($1)
           AS wanted (place integer, user_id text, method text, key text, course_id text)
    {STORED_OF_WANTED}
      LEFT JOIN LATERAL (SELECT revision, specialization
                           FROM courses
                          WHERE course_id = wanted.course_id AND revision > 0
                          LIMIT 1) AS course ON true
      LEFT JOIN LATERAL (SELECT version, epoch, xmin::text AS row_version
                           FROM learner_statistics
                          WHERE user_id = wanted.user_id
                          LIMIT 1) AS totals ON true
      LEFT JOIN LATERAL (SELECT since_revision, enrolled_at, completed_at
                           FROM enrollments
                          WHERE user_id = wanted.user_id AND course_id = wanted.course_id AND epoch = 0
                          LIMIT 1) AS enrollment ON true
     CROSS JOIN LATERAL (SELECT json_agg(json_build_array(module_id, lesson_id, revision))::text AS lessons
                           FROM lesson_completions
                          WHERE user_id = wanted.user_id AND course_id = wanted.course_id
                            AND epoch = 0) AS done
     CROSS JOIN LATERAL (SELECT json_agg(json_build_array(module_id, lesson_id))::text AS lessons
                           FROM watched_videos
                          WHERE user_id = wanted.user_id AND course_id = wanted.course_id
                            AND epoch = 0) AS begun
      LEFT JOIN LATERAL (
           SELECT known.version,
                  coalesce((SELECT min(xp_required)
                              FROM specialization_levels
                             WHERE specialization = known.specialization AND level > known.level)
                           - known.xp, {_ENDLESS_XP}) AS xp_left
             FROM specialization_progress AS known
            WHERE known.user_id = wanted.user_id AND known.specialization || '' = course.specialization
              AND known.catalog_version = coalesce((SELECT version
                                                      FROM specializations
                                                     WHERE specialization = course.specialization), 0)
            LIMIT 1) AS progress ON true
     ORDER BY wanted.place
"""

# A learner is passed over if somebody holds the row of totals, or if it is not the version that was read:
# every change of a learner's state makes a new version of it, with the id of its transaction in `xmin`
# (PostgreSQL 18, 5.6), except that of a level that stays as high as it is, so the row of the level has a
# version to compare, too.
#
# An achievement for completed lessons is earned at the moment at which the number reaches its threshold. A
# streak can only change by a new day, which is not in the snapshot yet. The other measures do not change
# here.
_WRITE_UNCHANGED = f"""
    WITH {PATIENCE}, free AS MATERIALIZED (
        SELECT seen.user_id
          FROM ROWS FROM (unnest((SELECT $1::text[])), unnest((SELECT $2::text[])))
               AS seen (user_id, row_version)
         CROSS JOIN patience
         CROSS JOIN LATERAL (
               SELECT true
                 FROM learner_statistics
                WHERE user_id = seen.user_id AND xmin::text = seen.row_version
                  AND patience.lock_timeout IS NOT NULL
                LIMIT 1
                  FOR NO KEY UPDATE SKIP LOCKED
               ) AS learner
    ), drafted AS MATERIALIZED (
        SELECT draft.*
          FROM json_to_recordset($3)
               AS draft (user_id text, course_id text, module_id text, lesson_id text, revision integer,
                         xp integer, occurred_at timestamptz, completed_lessons integer, finished boolean,
                         operation_id uuid, specialization text, active_day date,
                         progress_version bigint)
          JOIN free USING (user_id)
    ), gained AS (
        UPDATE specialization_progress AS progress
           SET xp = progress.xp + drafted.xp, version = progress.version + 1, updated_at = clock_timestamp()
          FROM drafted
         WHERE progress.user_id = drafted.user_id
           AND progress.specialization || '' = drafted.specialization
           AND progress.version = drafted.progress_version
        RETURNING progress.user_id
    ), new AS MATERIALIZED (
        SELECT *
          FROM drafted
         WHERE progress_version IS NULL OR user_id IN (SELECT user_id FROM gained)
    ), claimed AS (
        {
    claim_from(f'''(
               SELECT *
                 FROM {COMPLETED_CALL.unnest(4)}
                WHERE user_id IN (SELECT user_id FROM new)
               ) AS call''')
}
    ), completed AS (
        INSERT INTO lesson_completions
               (user_id, course_id, epoch, module_id, lesson_id, revision, xp, occurred_at)
        SELECT user_id, course_id, 0, module_id, lesson_id, revision, xp, occurred_at
          FROM new
    ), attended AS (
        UPDATE enrollments AS known
           SET completed_lessons = new.completed_lessons,
               completed_at = coalesce(known.completed_at, CASE WHEN new.finished THEN clock_timestamp() END)
          FROM new
         WHERE known.user_id = new.user_id AND known.course_id = new.course_id
    ), entered AS (
        INSERT INTO xp_entries (user_id, operation_id, amount, specialization, earned_at, epoch)
        SELECT user_id, operation_id, xp, specialization, occurred_at, 0
          FROM new
         WHERE xp > 0
    ), active AS (
        INSERT INTO activity_days (user_id, day)
        SELECT user_id, active_day
          FROM new
            ON CONFLICT ON CONSTRAINT activity_days_once DO NOTHING
        RETURNING user_id, day
    ), totals AS (
        UPDATE learner_statistics AS known
           SET xp = known.xp + new.xp,
               completed_lessons = known.completed_lessons + 1,
               version = known.version + 1,
               updated_at = clock_timestamp()
          FROM new
         WHERE known.user_id = new.user_id
        RETURNING known.user_id, known.completed_lessons
    ), streak AS (
        SELECT active.user_id, upper(run.run) - lower(run.run) AS days
          FROM active
         CROSS JOIN (SELECT coalesce(max(threshold), 0) AS days
                       FROM achievement_rules
                      WHERE measure = 'streak_days') AS longest
         CROSS JOIN LATERAL (
               SELECT coalesce(range_agg(daterange(known.day, known.day + 1)), '{{}}')
                      + datemultirange(daterange(active.day, active.day + 1)) AS days
                 FROM activity_days AS known
                WHERE known.user_id = active.user_id
                  AND known.day > active.day - longest.days AND known.day < active.day + longest.days
               ) AS around
         CROSS JOIN LATERAL unnest(around.days) AS run (run)
         WHERE run.run @> active.day
    ), awarded AS (
        INSERT INTO learner_achievements (user_id, achievement, earned_at)
        SELECT totals.user_id, rule.achievement, clock_timestamp()
          FROM totals
          JOIN achievement_rules AS rule
            ON rule.measure = 'completed_lessons' AND rule.threshold = totals.completed_lessons
         UNION ALL
        SELECT streak.user_id, rule.achievement, clock_timestamp()
          FROM streak
          JOIN achievement_rules AS rule
            ON rule.measure = 'streak_days' AND rule.threshold <= streak.days
            ON CONFLICT ON CONSTRAINT learner_achievements_once DO NOTHING
    )
    SELECT user_id
      FROM totals
"""


class Facts(NamedTuple):
    """What is known of a learner in a course, without a lock.

    `row_version` names the version of the row of totals. `xp_left` is what the learner can earn in the
    specialization of the course before a level can change, and `progress_version` the version of that level.
    Both are None if the course has no specialization, or if the level must be decided anew.
    """

    attended: Attended
    row_version: str
    xp_left: int | None
    progress_version: int | None

    def draft(self, request: CompletionRequest) -> Draft | None:
        """The completion, if it brings nothing but itself and its XP; see `CourseBook.draft`."""
        draft = CourseBook(*self.attended).draft(request)
        if draft is None or not draft.earning.gains:
            return draft
        return draft if self.xp_left is not None and draft.earning.xp < self.xp_left else None


class DraftedCall(NamedTuple):
    """A completion, and the answer to its request, as they are written if nothing has changed meanwhile."""

    facts: Facts
    draft: Draft
    call: CompletedCall

    @property
    def user_id(self) -> UserId:
        return self.draft.completion.user_id


class UnlockedCompletionStore:
    """Raises what `Database` raises."""

    def __init__(self, *, database: Database, editions: EditionCache, clock: DatabaseClock) -> None:
        self._database = database
        self._editions = editions
        self._clock = clock

    async def read_facts(self, items: Sequence[Item[CompletionRequest]]) -> list[Facts | None]:
        """What is known of each request, at one moment, without a lock; `write_unchanged` takes its place.

        None for a key that is in use, a course that does not exist, and a learner who has no row yet or has
        resets: those need the locks.
        """
        wanted = as_rows(
            [
                {**item.claim._asdict(), "place": place, "course_id": item.request.course_id}
                for place, item in enumerate(items)
            ]
        )

        async def work(connection: Connection) -> list[Facts | None]:
            asked_at = time.monotonic()
            rows = await connection.fetch(_READ_FACTS, wanted)
            self._clock.learn(rows[0]["read_at"], asked_at=asked_at)
            courses = await self._editions.get(
                connection,
                {
                    item.request.course_id: row["revision"]
                    for item, row in zip(items, rows, strict=True)
                    if row["revision"] is not None
                },
            )
            facts: list[Facts | None] = []
            for item, row in zip(items, rows, strict=True):
                edition = courses.get(item.request.course_id)
                if (
                    edition is None
                    or edition.revision != row["revision"]
                    or row["row_version"] is None
                    or row["left_out"]
                ):
                    facts.append(None)
                else:
                    attended = Attended(edition, _standing(item.request, row))
                    facts.append(Facts(attended, row["row_version"], row["xp_left"], row["progress_version"]))
            return facts

        return await self._database.read(work, deadline=latest_deadline(items), name="read_completions")

    async def write_unchanged(self, drafted: Sequence[DraftedCall], *, deadline: float) -> set[UserId]:
        """Write these, at most one for each learner, where nobody holds the learner or has changed anything.

        One statement, which waits for no learner. Returns the learners whose completions are written. A key
        that is in use, or an operation that is in the ledger, raises ConstraintViolation: nothing is written.
        """
        ordered = sorted(drafted, key=lambda each: each.user_id)
        rows = await self._database.execute_write(
            _WRITE_UNCHANGED,
            [each.user_id for each in ordered],
            [each.facts.row_version for each in ordered],
            as_rows([_row(each) for each in ordered]),
            claim_rows([each.call for each in ordered]),
            deadline=deadline,
            name="write_completions",
        )
        return {UserId(row["user_id"]) for row in rows}


def _standing(request: CompletionRequest, row: asyncpg.Record) -> Standing:
    return Standing(
        user_id=request.user_id,
        course_id=request.course_id,
        version=row["version"],
        read_at=row["read_at"],
        since_revision=row["since_revision"],
        enrolled_before=row["since_revision"] is not None,
        enrolled_at=row["enrolled_at"],
        finished_at=row["completed_at"],
        completed=completed_in(row),
        started=started_in(row),
    )


def _row(drafted: DraftedCall) -> dict[str, object]:
    book, completion, earning = drafted.draft
    return {
        "user_id": completion.user_id,
        "course_id": completion.course_id,
        "module_id": completion.module_id,
        "lesson_id": completion.lesson_id,
        "revision": completion.revision,
        "xp": completion.xp,
        "occurred_at": completion.occurred_at,
        "completed_lessons": len(book.completed),
        "finished": book.finished,
        "operation_id": earning.operation_id,
        "specialization": earning.specialization,
        "active_day": earning.active_day,
        "progress_version": drafted.facts.progress_version if earning.gains else None,
    }
