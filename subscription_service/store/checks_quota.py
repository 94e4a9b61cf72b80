"""Checks of the daily quota: the counters of a day against the holds that count for it."""

from __future__ import annotations

from datetime import timedelta

from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.postgres import Database
from subscription_service.store.repairs_quota import GIVE_BACK_TODAY, MOVE_HOLDS, RECOMPUTE_DAYS

# Each step counts all holds of its learners once.
_USAGE_MISMATCH = """
    WITH kept AS (
        SELECT usage.user_id, usage.day, usage.held, usage.used
          FROM step
         CROSS JOIN LATERAL (SELECT user_id, day, held, used
                               FROM daily_usage
                              WHERE user_id = step.user_id
                             OFFSET 0) AS usage
    ), counted AS (
        SELECT hold.user_id, hold.day, count(*) AS holds,
               coalesce(sum(hold.tests) FILTER (WHERE hold.state = 'open'), 0) AS held,
               coalesce(sum(hold.tests) FILTER (WHERE hold.state = 'committed'), 0) AS used,
               max(coalesce(hold.resolved_at, hold.placed_at)) AS changed_at
          FROM step
         CROSS JOIN LATERAL (SELECT user_id, day, state, tests, placed_at, resolved_at
                               FROM holds
                              WHERE user_id = step.user_id
                             OFFSET 0) AS hold
         GROUP BY hold.user_id, hold.day
    )
    SELECT user_id, jsonb_build_object('user_id', user_id, 'day', day) AS row,
           format('held %s, used %s', coalesce(kept.held, 0), coalesce(kept.used, 0)) AS observed,
           format('held %s, used %s', coalesce(counted.held, 0), coalesce(counted.used, 0)) AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('holds_of_the_day', coalesce(counted.holds, 0),
                              'last_change_of_a_hold', counted.changed_at) AS evidence
      FROM kept
      FULL JOIN counted USING (user_id, day)
     WHERE (coalesce(kept.held, 0), coalesce(kept.used, 0))
           <> (coalesce(counted.held, 0), coalesce(counted.used, 0))
"""
_WRONG_DAY = """
    SELECT user_id, jsonb_build_object('user_id', user_id, 'hold_id', hold_id) AS row,
           day::text AS observed, (placed_at AT TIME ZONE 'utc')::date::text AS expected,
           placed_at AS since, jsonb_build_object('state', state, 'tests', tests) AS evidence
      FROM step
     WHERE day <> (placed_at AT TIME ZONE 'utc')::date
"""
# What a learner may take today, where nothing has changed the limit since the day or the account began.
_TODAY = """
    SELECT step.user_id, usage.day, usage.held, usage.used, plan.plan_id, plan.daily_test_limit AS max,
           greatest(step.created_at, usage.day::timestamp AT TIME ZONE 'utc') AS began_at,
           greatest(plan.updated_at, fallback.updated_at,
                    CASE WHEN subscribed.changes = 1 THEN NULL ELSE subscribed.updated_at END) AS changed_at
      FROM step
     CROSS JOIN LATERAL (SELECT day, held, used
                           FROM daily_usage
                          WHERE user_id = step.user_id
                            AND day = (clock_timestamp() AT TIME ZONE 'utc')::date
                          LIMIT 1) AS usage
     CROSS JOIN LATERAL (SELECT plan_id, status, period_end, changes, updated_at
                           FROM subscriptions
                          WHERE user_id = step.user_id
                          LIMIT 1) AS subscribed
     CROSS JOIN LATERAL (SELECT plan_id, updated_at
                           FROM plans
                          WHERE is_default
                          LIMIT 1) AS fallback
      JOIN plans AS plan
        ON plan.plan_id = CASE WHEN subscribed.status IN ('trialing', 'active')
                                AND (subscribed.period_end IS NULL
                                     OR subscribed.period_end > clock_timestamp())
                               THEN subscribed.plan_id ELSE fallback.plan_id END
     WHERE plan.daily_test_limit IS NOT NULL
       AND (subscribed.period_end IS NULL OR subscribed.period_end > clock_timestamp()
            OR subscribed.period_end < usage.day::timestamp AT TIME ZONE 'utc')
"""
_OVER_LIMIT = f"""
    SELECT user_id, jsonb_build_object('user_id', user_id, 'day', day) AS row,
           format('held %s, used %s', held, used) AS observed,
           format('together at most %s', max) AS expected, NULL::timestamptz AS since,
           jsonb_build_object('plan', plan_id) AS evidence
      FROM ({_TODAY}) AS today
     WHERE held + used > max AND changed_at < began_at
"""
_ALL_HELD = f"""
    SELECT today.user_id, jsonb_build_object('user_id', today.user_id, 'day', today.day) AS row,
           format('held %s, used %s', today.held, today.used) AS observed,
           format('the learner knows of %s tests that are open', today.held) AS expected,
           open.newest AS since,
           jsonb_build_object('plan', today.plan_id, 'limit', today.max, 'open_holds', open.holds,
                              'oldest_open_hold', open.oldest) AS evidence
      FROM ({_TODAY}) AS today
     CROSS JOIN LATERAL (SELECT count(*) AS holds, min(placed_at) AS oldest, max(placed_at) AS newest
                           FROM holds
                          WHERE user_id = today.user_id AND day = today.day AND state = 'open'
                            AND tests > 0) AS open
     WHERE today.held > 0 AND today.held + today.used >= today.max
"""


def quota_checks(database: Database) -> list[Check]:
    """Whether the counters of each day are those that the holds make."""
    return [
        Check(
            check_id="subscription.usage_mismatch",
            severity=Severity.HIGH,
            meaning="The learner's tests of a day are counted wrong, so the limit is wrong.",
            repairs=(RECOMPUTE_DAYS,),
            walk=SqlWalk(database, table="accounts", key="user_id text", find=_USAGE_MISMATCH),
        ),
        Check(
            check_id="subscription.wrong_day",
            severity=Severity.HIGH,
            meaning="A test of the learner counts for another day than the one on which it began.",
            repairs=(MOVE_HOLDS,),
            walk=SqlWalk(database, table="holds", key="user_id text, hold_id uuid", find=_WRONG_DAY),
        ),
        Check(
            check_id="subscription.over_limit",
            severity=Severity.MEDIUM,
            meaning="The learner has taken more tests today than the plan allows.",
            advice="Nothing has to be repaired: tomorrow begins at zero. If the counters were repaired "
            "today, they were too low before. Otherwise report it: a limit must never be exceeded.",
            walk=SqlWalk(database, table="accounts", key="user_id text", find=_OVER_LIMIT),
        ),
        Check(
            check_id="subscription.all_held",
            severity=Severity.INFO,
            meaning="The learner cannot start a test, because older ones of today are still open.",
            age=timedelta(hours=2),
            advice="Ask the learner to finish or abandon these tests, or run the checks of session_service "
            f"for the learner. {GIVE_BACK_TODAY} gives the units of today back.",
            walk=SqlWalk(database, table="accounts", key="user_id text", find=_ALL_HELD),
        ),
    ]
