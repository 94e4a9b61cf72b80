"""Repairs of subscriptions and of the e-mail catalog. The history of a subscription is its truth."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.repairs import Planned, Repair, planned_by
from chassis.postgres import Connection
from chassis.postgres.rows import as_rows
from subscription_service.store.locks import LOCK_LEARNER

CREATE_MISSING = "subscription.create_missing"
PUT_RIGHT = "subscription.put_right"
FIX_EMAILS = "subscription.fix_emails"

# A subscription becomes what the last line of its history says. If there is no such line, the subscription is
# the truth; if its plan does not exist, or there is no subscription either, it becomes that of a new account,
# and the history gets a line.
_PUT_RIGHT = """
    WITH learners AS (
        SELECT DISTINCT user_id FROM found
    ), known AS (
        SELECT learners.user_id, to_jsonb(kept) AS before, last.line, last.number,
               last.plan_id AS last_plan_id, last.status AS last_status, last.period_end AS last_period_end,
               kept.plan_id, kept.status, kept.period_end, last.changed_at,
               EXISTS (SELECT FROM plans WHERE plans.plan_id = last.plan_id) AS last_stands,
               EXISTS (SELECT FROM plans WHERE plans.plan_id = kept.plan_id) AS kept_stands,
               (SELECT plans.plan_id FROM plans WHERE is_default) AS default_plan_id,
               clock_timestamp() AS now
          FROM learners
          LEFT JOIN subscriptions AS kept ON kept.user_id = learners.user_id
          LEFT JOIN LATERAL (SELECT change_number AS number, to_plan_id AS plan_id, to_status AS status,
                                    period_end, changed_at, true AS line
                               FROM subscription_changes
                              WHERE user_id = learners.user_id
                              ORDER BY change_number DESC
                              LIMIT 1) AS last ON true
    ), decided AS (
        SELECT user_id, before, coalesce(number, 0) AS number, last_plan_id, last_status, now,
               coalesce(last_stands AND last_status <> 'expired', false) AS follows,
               CASE WHEN last_stands AND last_status <> 'expired' THEN last_plan_id
                    WHEN line IS NULL AND kept_stands THEN plan_id ELSE default_plan_id END AS plan_id,
               CASE WHEN last_stands AND last_status <> 'expired' THEN last_status
                    WHEN line IS NULL AND kept_stands THEN status ELSE 'active' END AS status,
               CASE WHEN last_stands AND last_status <> 'expired' THEN last_period_end
                    WHEN line IS NULL AND kept_stands THEN period_end END AS period_end
          FROM known
    )
    SELECT user_id AS unit, user_id, table_name, before, after
      FROM (
          SELECT user_id, 1 AS place, 'subscription_changes' AS table_name, NULL::jsonb AS before,
                 jsonb_build_object('user_id', user_id, 'change_number', number + 1,
                                    'from_plan_id', last_plan_id, 'to_plan_id', plan_id,
                                    'from_status', last_status, 'to_status', status,
                                    'period_end', period_end, 'changed_by', 'repair', 'changed_at', now)
                     AS after
            FROM decided
           WHERE NOT follows
           UNION ALL
          SELECT user_id, 2, 'subscriptions', before,
                 jsonb_build_object('user_id', user_id, 'plan_id', plan_id, 'status', status,
                                    'period_end', period_end,
                                    'changes', CASE WHEN follows THEN number ELSE number + 1 END,
                                    'updated_at', now)
            FROM decided
      ) AS changed
     ORDER BY user_id, place
"""
# Rows that give an address free come before rows that take one.
_FIX_EMAILS = """
    SELECT account.user_id AS unit, account.user_id, 'account_emails' AS table_name,
           to_jsonb(owned) AS before,
           jsonb_build_object('email_key', lower(account.email), 'user_id', account.user_id) AS after
      FROM (SELECT DISTINCT user_id FROM found) AS wanted
      JOIN accounts AS account ON account.user_id = wanted.user_id
      LEFT JOIN account_emails AS owned ON owned.user_id = account.user_id
     WHERE NOT EXISTS (SELECT
                         FROM account_emails AS taken
                         JOIN accounts AS other ON other.user_id = taken.user_id
                        WHERE taken.email_key = lower(account.email) AND taken.user_id <> account.user_id
                          AND lower(other.email) = taken.email_key)
     ORDER BY owned.user_id IS NULL, account.user_id
"""
_TAKEN = """
    SELECT DISTINCT account.user_id
      FROM json_to_recordset($1) AS found (user_id text)
      JOIN accounts AS account ON account.user_id = found.user_id
      JOIN account_emails AS taken
        ON taken.email_key = lower(account.email) AND taken.user_id <> account.user_id
      JOIN accounts AS other ON other.user_id = taken.user_id AND lower(other.email) = taken.email_key
     ORDER BY account.user_id
"""

_emails = planned_by(_FIX_EMAILS)


async def _fix_emails(connection: Connection, findings: Sequence[Finding], scope: Scope) -> Planned:
    planned = await _emails(connection, findings, scope)
    rows = await connection.fetch(_TAKEN, as_rows([{"user_id": each.user_id} for each in findings]))
    return Planned(
        planned.units,
        [
            f"{row['user_id']}: another account has the same address; one of the two must change"
            for row in rows
        ],
    )


ACCOUNT_REPAIRS: tuple[Repair, ...] = (
    Repair(
        repair_id=CREATE_MISSING,
        meaning="Creates a subscription: the one that the history tells of, else one to the default plan.",
        tables=("subscriptions", "subscription_changes"),
        plan=planned_by(_PUT_RIGHT),
        lock=LOCK_LEARNER,
    ),
    Repair(
        repair_id=PUT_RIGHT,
        meaning="Sets plan, status and period of a subscription to what the history tells, or to the default "
        "plan if the plan does not exist.",
        tables=("subscriptions", "subscription_changes"),
        plan=planned_by(_PUT_RIGHT),
        lock=LOCK_LEARNER,
    ),
    Repair(
        repair_id=FIX_EMAILS,
        meaning="Reserves the address of an account in the e-mail catalog.",
        tables=("account_emails",),
        plan=_fix_emails,
        lock=LOCK_LEARNER,
    ),
)
