"""Reading a learner's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import asyncpg

from chassis.postgres import Connection, Database
from chassis.postgres.rows import from_row
from progress_service.domain.statistics import Statistics, UserId
from progress_service.domain.streaks import Run


@dataclass(frozen=True, slots=True)
class LearnerReport:
    """A learner's totals, the latest run of active days, and the UTC day on which both were read."""

    statistics: Statistics
    latest_run: Run | None
    today: date


class StatisticsStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def select_reports(
        self, user_ids: Sequence[UserId], *, deadline: float, today: date | None = None
    ) -> list[LearnerReport]:
        """A report for each of these learners, in their order; a learner without rows has zeros.

        `today` replaces the database's UTC day.
        """

        async def work(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(
                """
                SELECT learner.user_id,
                       coalesce(totals.enrolled, 0) AS enrolled,
                       coalesce(totals.completed_lessons, 0) AS completed_lessons,
                       coalesce(totals.completed_sessions, 0) AS completed_sessions,
                       coalesce(totals.questions_answered, 0) AS questions_answered,
                       coalesce(totals.answers, 0) AS answers,
                       coalesce(totals.correct, 0) AS correct,
                       coalesce(totals.xp, 0) AS xp,
                       coalesce(totals.version, 0) AS version,
                       totals.updated_at,
                       run_end.day AS last_day,
                       run_start.day AS first_day,
                       clock.today
                  FROM unnest($1::text[]) WITH ORDINALITY AS learner (user_id, place)
                 CROSS JOIN (SELECT coalesce($2::date, (now() AT TIME ZONE 'utc')::date) AS today) AS clock
                  LEFT JOIN learner_statistics AS totals ON totals.user_id = learner.user_id
                  LEFT JOIN LATERAL (SELECT day
                                       FROM activity_days AS active
                                      WHERE active.user_id = learner.user_id AND active.day <= clock.today
                                      ORDER BY day DESC
                                      LIMIT 1) AS run_end ON true
                  -- From that day backwards, to the first day without an active day before it.
                  LEFT JOIN LATERAL (SELECT day
                                       FROM activity_days AS active
                                      WHERE active.user_id = learner.user_id AND active.day <= run_end.day
                                        AND NOT EXISTS (SELECT 1
                                                          FROM activity_days AS before
                                                         WHERE before.user_id = active.user_id
                                                           AND before.day = active.day - 1)
                                      ORDER BY day DESC
                                      LIMIT 1) AS run_start ON true
                 ORDER BY learner.place
                """,
                user_ids,
                today,
            )

        rows = await self._database.read(work, deadline=deadline, name="select_reports")
        return [_report(row) for row in rows]


def _report(row: asyncpg.Record) -> LearnerReport:
    latest_run = None if row["last_day"] is None else from_row(Run, row)
    return LearnerReport(from_row(Statistics, row), latest_run, row["today"])
