"""Checks of accounts: each has one subscription to a plan, and one address in the e-mail catalog."""

from __future__ import annotations

from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.postgres import Database
from subscription_service.store.repairs_accounts import CREATE_MISSING, FIX_EMAILS, PUT_RIGHT

# Here and in the other checks, OFFSET 0 and LIMIT 1 keep the lookups apart, so each is one index probe.
# Without them the planner may read all of a table in each step.
_MISSING = """
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id) AS row,
           'no subscription' AS observed, 'one subscription' AS expected, NULL::timestamptz AS since,
           jsonb_build_object('account_created_at', step.created_at, 'lines_of_the_history', history.lines)
               AS evidence
      FROM step
     CROSS JOIN LATERAL (SELECT count(*) AS lines
                           FROM subscription_changes
                          WHERE user_id = step.user_id) AS history
     WHERE NOT EXISTS (SELECT FROM subscriptions WHERE user_id = step.user_id OFFSET 0)
"""
_PLAN_UNKNOWN = """
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id) AS row,
           format('plan %s, which does not exist', step.plan_id) AS observed,
           'a plan that exists' AS expected, NULL::timestamptz AS since,
           jsonb_build_object('status', step.status, 'updated_at', step.updated_at) AS evidence
      FROM step
     WHERE NOT EXISTS (SELECT FROM plans WHERE plan_id = step.plan_id OFFSET 0)
"""
# The time alone writes nothing: past its end, a subscription reads as expired, and its row stays as it was.
_STATUS_MISMATCH = """
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id) AS row,
           format('plan %s, %s, until %s, %s changes', step.plan_id, step.status,
                  coalesce(step.period_end::text, 'ever'), step.changes) AS observed,
           CASE WHEN last.change_number IS NULL THEN 'a first line of the history'
                ELSE format('plan %s, %s, until %s, %s changes', last.to_plan_id, last.to_status,
                            coalesce(last.period_end::text, 'ever'), last.change_number) END AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('last_changed_by', last.changed_by, 'last_changed_at', last.changed_at)
               AS evidence
      FROM step
      LEFT JOIN LATERAL (SELECT change_number, to_plan_id, to_status, period_end, changed_by, changed_at
                           FROM subscription_changes
                          WHERE user_id = step.user_id
                          ORDER BY change_number DESC
                          LIMIT 1) AS last ON true
     WHERE (step.plan_id, step.status, step.period_end, step.changes)
           IS DISTINCT FROM (last.to_plan_id, last.to_status, last.period_end, last.change_number)
"""
_HISTORY_GAP = """
    SELECT step.user_id,
           jsonb_build_object('user_id', step.user_id, 'change_number', step.change_number) AS row,
           CASE WHEN before.user_id IS NULL THEN 'the line before it is not there'
                ELSE format('from plan %s, %s', step.from_plan_id, step.from_status) END AS observed,
           CASE WHEN before.user_id IS NULL THEN 'lines are numbered without gaps'
                ELSE format('from plan %s, %s', before.to_plan_id, before.to_status) END AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('changed_by', step.changed_by, 'changed_at', step.changed_at) AS evidence
      FROM step
      LEFT JOIN LATERAL (SELECT user_id, to_plan_id, to_status
                           FROM subscription_changes
                          WHERE user_id = step.user_id AND change_number = step.change_number - 1
                          LIMIT 1) AS before ON true
     WHERE step.change_number <> 1
       AND (before.user_id IS NULL
            OR (step.from_plan_id, step.from_status) IS DISTINCT FROM (before.to_plan_id, before.to_status))
"""
# Only ASCII: programs and databases disagree about the lower case of other letters. The address is not shown.
_EMAIL_MISMATCH = """
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id) AS row,
           CASE WHEN owned.user_id IS NULL THEN 'no address in the catalog'
                ELSE 'another address in the catalog' END AS observed,
           'the address of the account' AS expected, NULL::timestamptz AS since,
           jsonb_build_object('address_belongs_to_another_account', taken.by_another,
                              'account_updated_at', step.updated_at) AS evidence
      FROM step
      LEFT JOIN LATERAL (SELECT user_id, email_key
                           FROM account_emails
                          WHERE user_id = step.user_id
                          LIMIT 1) AS owned ON true
     CROSS JOIN LATERAL (SELECT count(*) > 0 AS by_another
                           FROM account_emails
                          WHERE email_key = lower(step.email) AND user_id <> step.user_id) AS taken
     WHERE owned.user_id IS NULL
        OR (owned.email_key <> lower(step.email) AND octet_length(step.email) = char_length(step.email))
"""


def account_checks(database: Database) -> list[Check]:
    """Whether each account has what belongs to it."""

    def learners(table: str, find: str) -> SqlWalk:
        return SqlWalk(database, table=table, key="user_id text", find=find)

    return [
        Check(
            check_id="subscription.missing",
            severity=Severity.CRITICAL,
            meaning="The learner has an account and no subscription, and cannot see their limits.",
            repairs=(CREATE_MISSING,),
            walk=learners("accounts", _MISSING),
        ),
        Check(
            check_id="subscription.plan_unknown",
            severity=Severity.CRITICAL,
            meaning="The learner's plan does not exist, so they do not get what they are subscribed to.",
            repairs=(PUT_RIGHT,),
            walk=learners("subscriptions", _PLAN_UNKNOWN),
        ),
        Check(
            check_id="subscription.status_mismatch",
            severity=Severity.HIGH,
            meaning="The learner has another plan, status or end of the period than the history says.",
            repairs=(PUT_RIGHT,),
            walk=learners("subscriptions", _STATUS_MISMATCH),
        ),
        Check(
            check_id="subscription.history_gap",
            severity=Severity.LOW,
            meaning="The history of the learner's subscription has a gap.",
            advice="Nobody's limits depend on it. Restore the line from a backup if it matters.",
            walk=SqlWalk(
                database,
                table="subscription_changes",
                key="user_id text, change_number integer",
                find=_HISTORY_GAP,
            ),
        ),
        Check(
            check_id="subscription.email_mismatch",
            severity=Severity.MEDIUM,
            meaning="Another account could take the learner's e-mail address.",
            repairs=(FIX_EMAILS,),
            walk=learners("accounts", _EMAIL_MISMATCH),
        ),
    ]
