"""Repairs of the daily quota. The holds are the truth; the counters of a day only add them up."""

from __future__ import annotations

from chassis.diagnostics.repairs import Repair, planned_by
from subscription_service.store.locks import LOCK_LEARNER

RECOMPUTE_DAYS = "subscription.recompute_days"
MOVE_HOLDS = "subscription.move_holds"
GIVE_BACK_TODAY = "subscription.give_back_today"

_COUNTED = """
    SELECT coalesce(sum(tests) FILTER (WHERE state = 'open'), 0) AS held,
           coalesce(sum(tests) FILTER (WHERE state = 'committed'), 0) AS used
      FROM holds
"""
_RECOMPUTE_DAYS = f"""
    SELECT wanted.user_id || ' ' || wanted.day AS unit, wanted.user_id, 'daily_usage' AS table_name,
           to_jsonb(usage) AS before,
           jsonb_build_object('user_id', wanted.user_id, 'day', wanted.day, 'held', counted.held,
                              'used', counted.used) AS after
      FROM (SELECT user_id, (row ->> 'day')::date AS day FROM found) AS wanted
     CROSS JOIN LATERAL ({_COUNTED} WHERE user_id = wanted.user_id AND day = wanted.day) AS counted
      LEFT JOIN daily_usage AS usage ON usage.user_id = wanted.user_id AND usage.day = wanted.day
     ORDER BY wanted.user_id, wanted.day
"""
# All holds of a learner that count for a wrong day, and both days of each, are one unit.
_MOVE_HOLDS = """
    WITH learners AS (
        SELECT DISTINCT user_id FROM found
    ), placed AS (
        SELECT hold.user_id, hold.hold_id, hold.state, hold.tests, hold.day, right_.day AS right_day,
               to_jsonb(hold) AS before
          FROM learners
          JOIN holds AS hold ON hold.user_id = learners.user_id
         CROSS JOIN LATERAL (SELECT (hold.placed_at AT TIME ZONE 'utc')::date AS day) AS right_
    ), touched AS (
        SELECT user_id, day FROM placed WHERE day <> right_day
         UNION
        SELECT user_id, right_day FROM placed WHERE day <> right_day
    ), counted AS (
        SELECT user_id, right_day AS day,
               coalesce(sum(tests) FILTER (WHERE state = 'open'), 0) AS held,
               coalesce(sum(tests) FILTER (WHERE state = 'committed'), 0) AS used
          FROM placed
         GROUP BY user_id, right_day
    )
    SELECT user_id AS unit, user_id, table_name, before, after
      FROM (
          SELECT user_id, 1 AS place, hold_id::text AS name, 'holds' AS table_name, before,
                 before || jsonb_build_object('day', right_day) AS after
            FROM placed
           WHERE day <> right_day
           UNION ALL
          SELECT touched.user_id, 2, touched.day::text, 'daily_usage', to_jsonb(usage),
                 jsonb_build_object('user_id', touched.user_id, 'day', touched.day,
                                    'held', coalesce(counted.held, 0), 'used', coalesce(counted.used, 0))
            FROM touched
            LEFT JOIN counted USING (user_id, day)
            LEFT JOIN daily_usage AS usage ON usage.user_id = touched.user_id AND usage.day = touched.day
      ) AS changed
     ORDER BY user_id, place, name
"""
# A hold keeps its state, and costs no unit any more. So a session that is under way goes on, and an order to
# commit or release its hold that arrives later finds what it expects.
_GIVE_BACK_TODAY = """
    WITH today AS (
        SELECT (clock_timestamp() AT TIME ZONE 'utc')::date AS day
    ), given AS (
        SELECT hold.hold_id, to_jsonb(hold) AS before
          FROM today
          JOIN holds AS hold ON hold.user_id = $2 AND hold.day = today.day
         WHERE hold.tests > 0 AND hold.state IN ('open', 'committed')
    )
    SELECT $2 AS unit, $2 AS user_id, table_name, before, after
      FROM (
          SELECT 1 AS place, hold_id, 'holds' AS table_name, before,
                 before || '{"tests": 0}' AS after
            FROM given
           UNION ALL
          SELECT 2, NULL, 'daily_usage', to_jsonb(usage), to_jsonb(usage) || '{"held": 0, "used": 0}'
            FROM today
            JOIN daily_usage AS usage ON usage.user_id = $2 AND usage.day = today.day
      ) AS changed
     ORDER BY place, hold_id
"""

QUOTA_REPAIRS: tuple[Repair, ...] = (
    Repair(
        repair_id=RECOMPUTE_DAYS,
        meaning="Sets the counters of a day to what its holds make.",
        tables=("daily_usage",),
        plan=planned_by(_RECOMPUTE_DAYS),
        lock=LOCK_LEARNER,
    ),
    Repair(
        repair_id=MOVE_HOLDS,
        meaning="Lets a hold count for the day on which it was placed, and counts both days again.",
        tables=("holds", "daily_usage"),
        plan=planned_by(_MOVE_HOLDS),
        lock=LOCK_LEARNER,
    ),
    Repair(
        repair_id=GIVE_BACK_TODAY,
        meaning="Gives a learner all units of today back; tests that are under way go on, and cost none.",
        tables=("holds", "daily_usage"),
        plan=planned_by(_GIVE_BACK_TODAY),
        needs_check=False,
        lock=LOCK_LEARNER,
    ),
)
