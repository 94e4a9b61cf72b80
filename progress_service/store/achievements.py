"""Achievements: each is awarded once, by its unique row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, from_row
from chassis.rpc.paging import Page
from progress_service.domain.achievements import Achievement
from progress_service.domain.statistics import UserId

# Each subquery on a table of learners is one probe of its primary key, whatever the planner expects.
#
# A run of days is looked at around each new day, as far as the longest streak that a rule asks for. So the
# order in which the days arrive does not matter, and the work has a bound.
_AWARD = """
    WITH longest AS (
        SELECT coalesce(max(threshold), 0) AS days FROM achievement_rules WHERE measure = 'streak_days'
    ), streak AS (
        SELECT fresh.user_id, max(upper(run.run) - lower(run.run)) AS days
          FROM json_to_recordset($2) AS fresh (user_id text, day date)
         CROSS JOIN longest
         CROSS JOIN LATERAL (
               SELECT range_agg(daterange(active.day, active.day + 1)) AS days
                 FROM activity_days AS active
                WHERE active.user_id = fresh.user_id
                  AND active.day > fresh.day - longest.days AND active.day < fresh.day + longest.days
               ) AS around
         CROSS JOIN LATERAL unnest(around.days) AS run (run)
         WHERE run.run @> fresh.day
         GROUP BY fresh.user_id
    ), measured AS (
        SELECT totals.user_id, measure.name, measure.value
          FROM unnest((SELECT $1::text[])) AS learner (user_id)
         CROSS JOIN LATERAL (SELECT user_id, completed_lessons, completed_sessions
                               FROM learner_statistics
                              WHERE user_id = learner.user_id
                              LIMIT 1) AS totals
         CROSS JOIN LATERAL (VALUES ('completed_lessons', totals.completed_lessons),
                                    ('completed_sessions', totals.completed_sessions))
                            AS measure (name, value)
         UNION ALL
        SELECT user_id, 'streak_days', days FROM streak
         UNION ALL
        SELECT learner.user_id, measure.name, measure.value
          FROM unnest((SELECT $1::text[])) AS learner (user_id)
         CROSS JOIN LATERAL (SELECT max(level) AS level,
                                    count(*) FILTER (WHERE level = max_level AND level > 1) AS top_levels
                               FROM specialization_progress
                              WHERE user_id = learner.user_id) AS progress
         CROSS JOIN LATERAL (VALUES ('level', progress.level), ('top_levels', progress.top_levels))
                    AS measure (name, value)
    )
    INSERT INTO learner_achievements (user_id, achievement, earned_at)
    SELECT measured.user_id, rule.achievement, clock_timestamp()
      FROM measured
      JOIN achievement_rules AS rule ON rule.measure = measured.name AND rule.threshold <= measured.value
     WHERE (SELECT true
              FROM learner_achievements AS known
             WHERE known.user_id = measured.user_id AND known.achievement = rule.achievement
             LIMIT 1) IS NULL
     ORDER BY measured.user_id, rule.threshold, rule.achievement
        ON CONFLICT ON CONSTRAINT learner_achievements_once DO NOTHING
    RETURNING user_id, achievement
"""


@dataclass(frozen=True, slots=True)
class ActivityDay:
    """A UTC day on which a learner was active."""

    user_id: UserId
    day: date


async def award(
    connection: Connection, user_ids: Collection[UserId], *, days: Sequence[ActivityDay] = ()
) -> Mapping[UserId, tuple[str, ...]]:
    """Award what these learners, who must be locked, have newly earned; `days` are their new active days."""
    rows = await connection.fetch(_AWARD, list(user_ids), as_rows(days))
    awarded: dict[UserId, tuple[str, ...]] = {}
    for row in rows:
        user_id = UserId(row["user_id"])
        awarded[user_id] = (*awarded.get(user_id, ()), row["achievement"])
    return awarded


class AchievementStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_achievements(self, item: Item[None], page: Page) -> list[Achievement]:
        """The caller's achievements by their names."""
        (after,) = page.after or ("",)

        async def work(connection: Connection) -> list[Achievement]:
            rows = await connection.fetch(
                """
                SELECT earned.achievement, rule.title, rule.description, earned.earned_at
                  FROM learner_achievements AS earned
                  JOIN achievement_rules AS rule ON rule.achievement = earned.achievement
                 WHERE earned.user_id = $1 AND earned.achievement > $2
                 ORDER BY earned.achievement
                 LIMIT $3
                """,
                item.user_id,
                after,
                page.limit,
            )
            return [from_row(Achievement, row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_achievements")
