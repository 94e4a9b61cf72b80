"""The check of achievements: each has a cause that lasts, because what gives it does not go away."""

from __future__ import annotations

from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.diagnostics.repairs import Repair, planned_by
from chassis.postgres import Database

REMOVE_ACHIEVEMENT = "progress.remove_achievement"

# A reset takes levels away, and no achievement. A catalog that grows takes a highest level away. So a level
# is a cause only of learners who had no reset, and of a highest level it is known that it was above 1. Of a
# learner without totals nothing is said.
_WITHOUT_CAUSE = """
    SELECT step.user_id,
           jsonb_build_object('user_id', step.user_id, 'achievement', step.achievement) AS row,
           CASE WHEN rule.achievement IS NULL THEN 'no such achievement'
                ELSE format('%s: %s', rule.measure, measured.value) END AS observed,
           CASE WHEN rule.achievement IS NULL THEN 'an achievement with a rule'
                ELSE format('%s: at least %s', rule.measure, measured.least) END AS expected,
           NULL::timestamptz AS since, jsonb_build_object('earnedAt', step.earned_at) AS evidence
      FROM step
      LEFT JOIN achievement_rules AS rule ON rule.achievement = step.achievement
     CROSS JOIN LATERAL (
           SELECT CASE WHEN rule.measure = 'top_levels' THEN 2 ELSE rule.threshold END AS least,
                  CASE rule.measure
                      WHEN 'completed_lessons' THEN
                           (SELECT completed_lessons FROM learner_statistics WHERE user_id = step.user_id)
                      WHEN 'completed_sessions' THEN
                           (SELECT completed_sessions FROM learner_statistics WHERE user_id = step.user_id)
                      WHEN 'streak_days' THEN
                           (SELECT coalesce(max(run.days), 0)
                              FROM (SELECT count(*) AS days
                                      FROM (SELECT day - (row_number() OVER (ORDER BY day))::integer AS begun
                                              FROM activity_days
                                             WHERE user_id = step.user_id) AS active
                                     GROUP BY begun) AS run)
                      ELSE (SELECT coalesce(max(level), 0)
                              FROM specialization_progress WHERE user_id = step.user_id)
                  END AS value
           ) AS measured
     WHERE rule.achievement IS NULL
        OR (measured.value < measured.least
            AND (rule.measure NOT IN ('level', 'top_levels')
                 OR (SELECT true FROM progress_resets WHERE user_id = step.user_id LIMIT 1) IS NULL))
"""
_REMOVE = """
    SELECT DISTINCT ON (kept.user_id, kept.achievement)
           concat_ws(' ', kept.user_id, kept.achievement) AS unit, kept.user_id,
           'learner_achievements' AS table_name, to_jsonb(kept) AS before, NULL::jsonb AS after
      FROM found
      JOIN learner_achievements AS kept
        ON kept.user_id = found.user_id AND kept.achievement = found.row ->> 'achievement'
     ORDER BY kept.user_id, kept.achievement
"""

ACHIEVEMENT_REPAIRS = (
    Repair(
        repair_id=REMOVE_ACHIEVEMENT,
        meaning="Takes away an achievement that has no cause. The journal keeps it.",
        tables=("learner_achievements",),
        plan=planned_by(_REMOVE),
    ),
)


def achievements_checks(database: Database) -> list[Check]:
    """The check of achievements."""
    return [
        Check(
            check_id="progress.achievement_without_cause",
            severity=Severity.LOW,
            meaning="The learner has an achievement that they have not earned.",
            repairs=(REMOVE_ACHIEVEMENT,),
            walk=SqlWalk(
                database,
                table="learner_achievements",
                key="user_id text, achievement text",
                find=_WITHOUT_CAUSE,
            ),
        )
    ]
