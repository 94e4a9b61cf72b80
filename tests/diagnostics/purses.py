"""A small store to diagnose: purses with a total, and the coins in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.diagnostics.repairs import Repair, planned_by
from chassis.postgres import Database

TABLES = """
    CREATE TABLE purses (
        user_id text PRIMARY KEY,
        total integer NOT NULL CHECK (total <= 1000),
        doubled integer GENERATED ALWAYS AS (total * 2) STORED,
        note text NOT NULL DEFAULT 'new',
        filled_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE owners (user_id text PRIMARY KEY);
    CREATE TABLE coins (
        user_id text NOT NULL,
        coin integer NOT NULL,
        value integer NOT NULL,
        PRIMARY KEY (user_id, coin)
    );
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC
"""

WRONG_TOTAL = "purse.wrong_total"
RECOUNT = "purse.recount"
EMPTY_OUT = "purse.empty_out"

_FIND = """
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id) AS row,
           step.total::text AS observed, counted.total::text AS expected, step.filled_at AS since,
           jsonb_build_object('coins', counted.coins) AS evidence
      FROM step
     CROSS JOIN LATERAL (SELECT coalesce(sum(value), 0) AS total, count(*) AS coins
                           FROM coins
                          WHERE coins.user_id = step.user_id) AS counted
     WHERE step.total <> counted.total
"""
_RECOUNT = """
    SELECT found.user_id AS unit, found.user_id, 'purses' AS table_name, to_jsonb(purse) AS before,
           to_jsonb(purse) || jsonb_build_object('total', found.expected::integer) AS after
      FROM found
      JOIN purses AS purse ON purse.user_id = found.user_id
     ORDER BY found.user_id
"""
# The purse and its coins are one unit.
_EMPTY_OUT = """
    SELECT $2 AS unit, $2 AS user_id, 'coins' AS table_name, to_jsonb(kept) AS before, NULL::jsonb AS after
      FROM coins AS kept
     WHERE kept.user_id = $2
    UNION ALL
    SELECT $2, $2, 'purses', to_jsonb(purse), to_jsonb(purse) || '{"total": 0, "note": "emptied"}'
      FROM purses AS purse
     WHERE purse.user_id = $2
"""

REPAIRS: Sequence[Repair] = (
    Repair(
        repair_id=RECOUNT,
        meaning="Sets the total to the sum of the coins.",
        tables=("purses",),
        plan=planned_by(_RECOUNT),
        lock="SELECT FROM owners WHERE user_id = $1 FOR UPDATE",
    ),
    Repair(
        repair_id=EMPTY_OUT,
        meaning="Takes all coins out of a learner's purse.",
        tables=("purses", "coins"),
        plan=planned_by(_EMPTY_OUT),
        needs_check=False,
    ),
)


def checks(database: Database, *, age: timedelta = timedelta(0)) -> list[Check]:
    """The checks of the store; a purse that was filled less than `age` ago is passed over."""
    return [
        Check(
            check_id=WRONG_TOTAL,
            severity=Severity.CRITICAL,
            meaning="The learner sees another total than the coins make.",
            age=age,
            repairs=(RECOUNT,),
            walk=SqlWalk(database, table="purses", key="user_id text", find=_FIND),
        )
    ]
