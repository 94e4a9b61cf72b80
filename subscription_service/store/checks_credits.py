"""Checks of credits: balances, grants and holds against the ledger, which is the truth."""

from __future__ import annotations

from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.postgres import Database
from subscription_service.store.repairs_credits import (
    MATCH_HOLDS,
    RECOMPUTE_BALANCES,
    RECOMPUTE_GRANTS,
    counted_wallets,
)

_BALANCE_MISMATCH = f"""
    SELECT user_id, jsonb_build_object('user_id', user_id) AS row,
           format('balance %s, held %s, entries %s, granted this month %s',
                  kept_balance, kept_held, kept_entries, kept_granted) AS observed,
           format('balance %s, held %s, entries %s, granted this month %s',
                  balance, held, entries, granted) AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('lines_of_the_ledger', lines, 'last_line_at', last_line_at, 'month', month)
               AS evidence
      FROM ({counted_wallets("step")}) AS wallet
     WHERE (kept_balance, kept_held, kept_entries, kept_granted) <> (balance, held, entries, granted)
"""
_GRANTS_MISMATCH = f"""
    SELECT user_id, jsonb_build_object('user_id', user_id) AS row,
           format('%s left of all grants, %s held', remaining, held) AS observed,
           format('together %s, as the ledger says', balance) AS expected,
           NULL::timestamptz AS since, jsonb_build_object('lines_of_the_ledger', lines) AS evidence
      FROM ({counted_wallets("step")}) AS wallet
     WHERE remaining + held <> balance
"""
# `lapsed` are the credits of the grant that have left the ledger, by themselves or with a hold.
_GRANT_OVERSPENT = """
    SELECT step.user_id,
           jsonb_build_object('user_id', step.user_id, 'entry_number', step.entry_number) AS row,
           format('%s left, %s held or spent, %s expired', step.remaining, taken.amount, lapsed.amount)
               AS observed,
           coalesce('together at most ' || entry.amount, 'a line of the ledger') AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('kind', entry.kind, 'granted_at', entry.created_at) AS evidence
      FROM step
      LEFT JOIN LATERAL (SELECT amount, kind, created_at
                           FROM credit_entries
                          WHERE user_id = step.user_id AND entry_number = step.entry_number
                          LIMIT 1) AS entry ON true
     CROSS JOIN LATERAL (SELECT coalesce(sum(part.amount), 0) AS amount
                           FROM hold_credits AS part
                           JOIN holds AS hold ON hold.user_id = part.user_id AND hold.hold_id = part.hold_id
                          WHERE part.user_id = step.user_id AND part.entry_number = step.entry_number
                            AND hold.state <> 'released') AS taken
     CROSS JOIN LATERAL (SELECT coalesce(-sum(amount), 0) AS amount
                           FROM credit_entries
                          WHERE user_id = step.user_id AND kind = 'expiry'
                            AND (operation_id = 'expiry:' || step.entry_number
                                 OR operation_id LIKE 'hold:%:expiry:' || step.entry_number)) AS lapsed
     WHERE entry.amount IS NULL OR entry.amount < 0
        OR step.remaining + taken.amount + lapsed.amount > entry.amount
"""
_LEDGER_GAP = """
    SELECT step.user_id,
           jsonb_build_object('user_id', step.user_id, 'entry_number', step.entry_number) AS row,
           CASE WHEN before.missing THEN 'the line before it is not there'
                ELSE format('balance %s after it', step.balance_after) END AS observed,
           CASE WHEN before.missing THEN 'lines are numbered without gaps'
                ELSE format('balance %s after it', before.balance_after + step.amount) END AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('kind', step.kind, 'amount', step.amount, 'created_at', step.created_at)
               AS evidence
      FROM step
     CROSS JOIN LATERAL (SELECT step.entry_number > 1 AND count(*) = 0 AS missing,
                                coalesce(max(balance_after), 0) AS balance_after
                           FROM credit_entries
                          WHERE user_id = step.user_id AND entry_number = step.entry_number - 1) AS before
     WHERE before.missing OR step.entry_number < 1
        OR step.balance_after <> before.balance_after + step.amount
"""
# The id of a monthly grant ends with what the month has granted so far, so the largest one is the sum.
_MONTHLY_TWICE = """
    SELECT granted.user_id,
           jsonb_build_object('user_id', granted.user_id, 'month', granted.month) AS row,
           format('%s credits in %s lines', granted.amount, granted.lines) AS observed,
           format('%s credits', granted.due) AS expected, granted.last_at AS since,
           jsonb_build_object('first_at', granted.first_at, 'last_at', granted.last_at) AS evidence
      FROM (SELECT entry.user_id, split_part(entry.operation_id, ':', 2) AS month, count(*) AS lines,
                   sum(entry.amount) AS amount, max(split_part(entry.operation_id, ':', 3)::bigint) AS due,
                   min(entry.created_at) AS first_at, max(entry.created_at) AS last_at
              FROM step
             CROSS JOIN LATERAL (SELECT user_id, operation_id, amount, created_at
                                   FROM credit_entries
                                  WHERE user_id = step.user_id AND kind = 'grant'
                                    AND operation_id ~ '^monthly:[0-9]{4}-[0-9]{2}:[0-9]+$'
                                 OFFSET 0) AS entry
             GROUP BY entry.user_id, month) AS granted
     WHERE granted.amount <> granted.due
"""
_HOLD_CREDITS = """
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id, 'hold_id', step.hold_id) AS row,
           format('%s, takes %s from grants, %s in the ledger', step.state, parts.amount, ledger.amount)
               AS observed,
           format('takes %s from grants, %s in the ledger', step.credits,
                  CASE step.state WHEN 'committed' THEN -step.credits ELSE 0 END) AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('placed_at', step.placed_at, 'resolved_at', step.resolved_at) AS evidence
      FROM step
     CROSS JOIN LATERAL (SELECT coalesce(sum(amount), 0) AS amount
                           FROM hold_credits
                          WHERE user_id = step.user_id AND hold_id = step.hold_id) AS parts
     CROSS JOIN LATERAL (SELECT coalesce(sum(amount), 0) AS amount
                           FROM credit_entries
                          WHERE user_id = step.user_id AND operation_id = 'hold:' || step.hold_id) AS ledger
     WHERE parts.amount <> step.credits
        OR ledger.amount <> CASE step.state WHEN 'committed' THEN -step.credits ELSE 0 END
"""


def credit_checks(database: Database) -> list[Check]:
    """Whether all that is kept about credits agrees with the ledger, and the ledger with itself."""

    def of_accounts(find: str) -> SqlWalk:
        return SqlWalk(database, table="accounts", key="user_id text", find=find)

    return [
        Check(
            check_id="subscription.balance_mismatch",
            severity=Severity.HIGH,
            meaning="The learner's balance, or what the month has granted, is not what the ledger makes.",
            repairs=(RECOMPUTE_BALANCES,),
            walk=of_accounts(_BALANCE_MISMATCH),
        ),
        Check(
            check_id="subscription.grants_mismatch",
            severity=Severity.HIGH,
            meaning="The learner can spend more or fewer credits than the balance shows.",
            repairs=(RECOMPUTE_GRANTS,),
            walk=of_accounts(_GRANTS_MISMATCH),
        ),
        Check(
            check_id="subscription.grant_overspent",
            severity=Severity.HIGH,
            meaning="More of a grant was spent or is left than the learner was granted.",
            repairs=(RECOMPUTE_GRANTS,),
            walk=SqlWalk(
                database,
                table="credit_grants",
                key="user_id text, entry_number integer",
                find=_GRANT_OVERSPENT,
            ),
        ),
        Check(
            check_id="subscription.ledger_gap",
            severity=Severity.HIGH,
            meaning="Lines are missing in the learner's list of credits, or their balances do not add up.",
            advice="No repair changes lines of a ledger. Restore the lines from a backup. If there is none, "
            "correct the balance with POST /v1/accounts/{userId}/credits.",
            walk=SqlWalk(
                database, table="credit_entries", key="user_id text, entry_number integer", find=_LEDGER_GAP
            ),
        ),
        Check(
            check_id="subscription.monthly_grant_twice",
            severity=Severity.MEDIUM,
            meaning="The learner was granted the credits of a month more than once, or not all of them.",
            advice="No repair changes lines of a ledger. Bring in or take back the difference with "
            "POST /v1/accounts/{userId}/credits, if it is worth it.",
            walk=of_accounts(_MONTHLY_TWICE),
        ),
        Check(
            check_id="subscription.hold_credits",
            severity=Severity.HIGH,
            meaning="A test has cost the learner other credits than it reserved, or cannot be ended.",
            repairs=(MATCH_HOLDS,),
            advice="Look at the hold and its lines in the ledger. If the learner has paid too much, bring "
            "the difference in with POST /v1/accounts/{userId}/credits.",
            walk=SqlWalk(database, table="holds", key="user_id text, hold_id uuid", find=_HOLD_CREDITS),
        ),
    ]
