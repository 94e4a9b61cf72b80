"""Rows of learners who have no account, such as after rows were removed by hand."""

from __future__ import annotations

from chassis.diagnostics.chaining import ChainedWalk
from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.diagnostics.repairs import Repair, planned_by
from chassis.postgres import Database
from chassis.postgres.rows import names
from subscription_service.store.locks import LOCK_LEARNER

REMOVE_ORPHANS = "subscription.remove_orphans"

# Tables that refer to others come first, so their rows are removed first. The catalog is walked by its
# learners: its key is an e-mail address.
_KEYS = {
    "hold_credits": "user_id text, hold_id uuid, entry_number integer",
    "credit_grants": "user_id text, entry_number integer",
    "credit_entries": "user_id text, entry_number integer",
    "credit_balances": "user_id text",
    "holds": "user_id text, hold_id uuid",
    "daily_usage": "user_id text, day date",
    "license_events": "user_id text, specialization text, event_id uuid",
    "license_changes": "user_id text, sequence bigint",
    "licenses": "user_id text, specialization text",
    "subscription_changes": "user_id text, change_number integer",
    "subscriptions": "user_id text",
    "account_emails": "user_id text",
}


def _find(table: str) -> str:
    shown = ", ".join(f"'{name}', step.{name}" for name in names(_KEYS[table]).split(", "))
    return f"""
        SELECT step.user_id, jsonb_build_object('table', '{table}', {shown}) AS row,
               'no account' AS observed, 'an account' AS expected, NULL::timestamptz AS since,
               '{{}}'::jsonb AS evidence
          FROM step
         WHERE NOT EXISTS (SELECT FROM accounts WHERE user_id = step.user_id OFFSET 0)
    """


def _rows(place: int, table: str) -> str:
    columns = [column.split() for column in _KEYS[table].split(",")]
    same = " AND ".join(f"kept.{name} = (found.row ->> '{name}')::{type_}" for name, type_ in columns)
    return f"""
        SELECT {place} AS place, found.user_id, found.row, '{table}' AS table_name, to_jsonb(kept) AS before
          FROM found
          JOIN {table} AS kept ON {same}
         WHERE found.row ->> 'table' = '{table}'
           AND NOT EXISTS (SELECT FROM accounts WHERE user_id = found.user_id)
    """


_REMOVE = f"""
    SELECT row::text AS unit, user_id, table_name, before, NULL::jsonb AS after
      FROM ({" UNION ALL ".join(_rows(place, table) for place, table in enumerate(_KEYS))}) AS orphaned
     ORDER BY place, user_id, row::text
"""

ORPHAN_REPAIRS: tuple[Repair, ...] = (
    Repair(
        repair_id=REMOVE_ORPHANS,
        meaning="Removes rows of learners who have no account; the journal keeps them.",
        tables=tuple(_KEYS),
        plan=planned_by(_REMOVE),
        lock=LOCK_LEARNER,
    ),
)


def orphan_checks(database: Database) -> list[Check]:
    """Whether each row of a learner has an account."""
    return [
        Check(
            check_id="subscription.orphan",
            severity=Severity.LOW,
            meaning="Rows are left of a learner whose account is gone; nobody sees them.",
            repairs=(REMOVE_ORPHANS,),
            advice="If the account was removed by mistake, restore it: then the rows belong to it again.",
            walk=ChainedWalk(
                [SqlWalk(database, table=table, key=key, find=_find(table)) for table, key in _KEYS.items()]
            ),
        )
    ]
