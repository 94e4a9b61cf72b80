"""Repairs of credits. The ledger is the truth: it is append-only, and all else only adds it up."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.repairs import Planned, Repair, RowChange, Unit, planned_by
from chassis.postgres import Connection
from chassis.postgres.rows import as_rows
from subscription_service.domain.credits import GrantShare, shares
from subscription_service.store.locks import LOCK_LEARNER

RECOMPUTE_BALANCES = "subscription.recompute_balances"
RECOMPUTE_GRANTS = "subscription.recompute_grants"
MATCH_HOLDS = "subscription.match_holds"


def counted_wallets(learners: str) -> str:
    """A SELECT of what is kept of the credits of the learners in a relation, and what their rows add up to.

    A learner without credits has zeros. `entries` is the number of the last line: the next one follows it.
    """
    return f"""
        SELECT learner.user_id,
               coalesce(kept.balance, 0) AS kept_balance, coalesce(kept.held, 0) AS kept_held,
               coalesce(kept.entries, 0) AS kept_entries, coalesce(kept.month_granted, 0) AS kept_granted,
               ledger.balance, reserved.held, ledger.entries, monthly.granted,
               ledger.lines, ledger.last_line_at, current.month, unspent.remaining
          FROM {learners} AS learner
          LEFT JOIN LATERAL (SELECT balance, held, entries, month, month_granted
                               FROM credit_balances
                              WHERE user_id = learner.user_id
                              LIMIT 1) AS kept ON true
         CROSS JOIN LATERAL (SELECT coalesce(kept.month,
                                             date_trunc('month', clock_timestamp() AT TIME ZONE 'utc')::date)
                                    AS month) AS current
         CROSS JOIN LATERAL (SELECT coalesce(sum(amount), 0) AS balance,
                                    coalesce(max(entry_number), 0) AS entries,
                                    count(*) AS lines, max(created_at) AS last_line_at
                               FROM credit_entries
                              WHERE user_id = learner.user_id) AS ledger
         CROSS JOIN LATERAL (SELECT coalesce(sum(amount), 0) AS granted
                               FROM credit_entries
                              WHERE user_id = learner.user_id
                                AND operation_id LIKE 'monthly:' || to_char(current.month, 'YYYY-MM') || ':%'
                            ) AS monthly
         CROSS JOIN LATERAL (SELECT coalesce(sum(credits), 0) AS held
                               FROM holds
                              WHERE user_id = learner.user_id AND state = 'open') AS reserved
         CROSS JOIN LATERAL (SELECT coalesce(sum(remaining), 0) AS remaining
                               FROM credit_grants
                              WHERE user_id = learner.user_id) AS unspent
    """


# A ledger that lacks lines is no truth, so nothing follows it.
_WITH_GAPS = """
    SELECT found.user_id
      FROM (SELECT DISTINCT user_id FROM json_to_recordset($1) AS found (user_id text)) AS found
     CROSS JOIN LATERAL (SELECT count(*) AS lines, max(entry_number) AS last
                           FROM credit_entries
                          WHERE user_id = found.user_id) AS ledger
     WHERE ledger.lines <> coalesce(ledger.last, 0)
     ORDER BY found.user_id
"""
_RECOMPUTE_BALANCES = f"""
    SELECT wallet.user_id AS unit, wallet.user_id, 'credit_balances' AS table_name, to_jsonb(kept) AS before,
           jsonb_build_object('user_id', wallet.user_id, 'balance', wallet.balance, 'held', wallet.held,
                              'entries', wallet.entries, 'month', wallet.month,
                              'month_granted', wallet.granted) AS after
      FROM ({counted_wallets("(SELECT DISTINCT user_id FROM found)")}) AS wallet
      LEFT JOIN credit_balances AS kept ON kept.user_id = wallet.user_id
     ORDER BY wallet.user_id
"""
# What each grant brought in, and how much of it was neither reserved nor spent nor has lapsed.
_GRANTS = """
    SELECT kept.user_id, kept.entry_number, kept.remaining, kept.expires_at, to_jsonb(kept)::text AS row,
           coalesce(entry.amount, 0) - taken.amount - lapsed.amount AS room,
           ledger.balance - reserved.held AS target
      FROM (SELECT DISTINCT user_id FROM json_to_recordset($1) AS found (user_id text)) AS found
      JOIN credit_grants AS kept ON kept.user_id = found.user_id
      LEFT JOIN credit_entries AS entry
        ON entry.user_id = kept.user_id AND entry.entry_number = kept.entry_number
     CROSS JOIN LATERAL (SELECT coalesce(sum(part.amount), 0) AS amount
                           FROM hold_credits AS part
                           JOIN holds AS hold ON hold.user_id = part.user_id AND hold.hold_id = part.hold_id
                          WHERE part.user_id = kept.user_id AND part.entry_number = kept.entry_number
                            AND hold.state <> 'released') AS taken
     CROSS JOIN LATERAL (SELECT coalesce(-sum(amount), 0) AS amount
                           FROM credit_entries
                          WHERE user_id = kept.user_id AND kind = 'expiry'
                            AND (operation_id = 'expiry:' || kept.entry_number
                                 OR operation_id LIKE 'hold:%:expiry:' || kept.entry_number)) AS lapsed
     CROSS JOIN LATERAL (SELECT coalesce(sum(amount), 0) AS balance
                           FROM credit_entries
                          WHERE user_id = kept.user_id) AS ledger
     CROSS JOIN LATERAL (SELECT coalesce(sum(credits), 0) AS held
                           FROM holds
                          WHERE user_id = kept.user_id AND state = 'open') AS reserved
     ORDER BY kept.user_id, kept.entry_number
"""

# What a hold took from grants is what it reserved, if the ledger does not say otherwise. What is held of the
# balance follows.
_MATCH_HOLDS = """
    WITH matched AS (
        SELECT hold.user_id, hold.hold_id, hold.state, to_jsonb(hold) AS before, parts.amount
          FROM found
          JOIN holds AS hold
            ON hold.user_id = found.user_id AND hold.hold_id = (found.row ->> 'hold_id')::uuid
         CROSS JOIN LATERAL (SELECT coalesce(sum(amount), 0) AS amount
                               FROM hold_credits
                              WHERE user_id = hold.user_id AND hold_id = hold.hold_id) AS parts
         CROSS JOIN LATERAL (SELECT coalesce(sum(amount), 0) AS amount
                               FROM credit_entries
                              WHERE user_id = hold.user_id
                                AND operation_id = 'hold:' || hold.hold_id) AS ledger
         WHERE ledger.amount = CASE hold.state WHEN 'committed' THEN -parts.amount ELSE 0 END
    )
    SELECT user_id AS unit, user_id, table_name, before, after
      FROM (
          SELECT user_id, 1 AS place, hold_id, 'holds' AS table_name, before,
                 before || jsonb_build_object('credits', amount) AS after
            FROM matched
           UNION ALL
          SELECT kept.user_id, 2, NULL, 'credit_balances', to_jsonb(kept),
                 to_jsonb(kept) || jsonb_build_object('held', reserved.held)
            FROM (SELECT DISTINCT user_id FROM matched WHERE state = 'open') AS touched
            JOIN credit_balances AS kept ON kept.user_id = touched.user_id
           CROSS JOIN LATERAL (SELECT coalesce(sum(coalesce(matched.amount, hold.credits)), 0) AS held
                                 FROM holds AS hold
                                 LEFT JOIN matched
                                   ON matched.user_id = hold.user_id AND matched.hold_id = hold.hold_id
                                WHERE hold.user_id = kept.user_id AND hold.state = 'open') AS reserved
      ) AS changed
     ORDER BY user_id, place, hold_id
"""

_balances = planned_by(_RECOMPUTE_BALANCES)
_holds = planned_by(_MATCH_HOLDS)


async def _whole(connection: Connection, findings: Sequence[Finding]) -> tuple[list[Finding], list[str]]:
    """The findings of learners whose ledger is whole, and a line for each other learner."""
    rows = await connection.fetch(_WITH_GAPS, as_rows([{"user_id": each.user_id} for each in findings]))
    lacking = {row["user_id"] for row in rows}
    return [each for each in findings if each.user_id not in lacking], [
        f"{user_id}: the ledger lacks lines, so nothing can follow it" for user_id in sorted(lacking)
    ]


async def _recompute_balances(connection: Connection, findings: Sequence[Finding], scope: Scope) -> Planned:
    whole, left_out = await _whole(connection, findings)
    planned = await _balances(connection, whole, scope)
    return Planned(planned.units, left_out)


async def _match_holds(connection: Connection, findings: Sequence[Finding], scope: Scope) -> Planned:
    planned = await _holds(connection, findings, scope)
    matched = {
        change.before["hold_id"]
        for unit in planned.units
        for change in unit.changes
        if change.table == "holds" and change.before is not None
    }
    return Planned(
        planned.units,
        [
            f"{each.user_id}: the ledger has other credits for the hold {each.row['hold_id']}"
            for each in findings
            if each.row["hold_id"] not in matched
        ],
    )


async def _recompute_grants(connection: Connection, findings: Sequence[Finding], _scope: Scope) -> Planned:
    whole, left_out = await _whole(connection, findings)
    rows = await connection.fetch(_GRANTS, as_rows([{"user_id": each.user_id} for each in whole]))
    units: list[Unit] = []
    for user_id in sorted({row["user_id"] for row in rows}):
        own = [row for row in rows if row["user_id"] == user_id]
        wanted = shares(
            [
                GrantShare(row["entry_number"], row["remaining"], row["room"], row["expires_at"])
                for row in own
            ],
            own[0]["target"],
        )
        if wanted is None:
            left_out.append(f"{user_id}: holds have taken more from a grant than it brought in")
            continue
        befores = {row["entry_number"]: orjson.loads(row["row"]) for row in own}
        changes = [
            RowChange("credit_grants", user_id, befores[number], befores[number] | {"remaining": remaining})
            for number, remaining in wanted.items()
            if befores[number]["remaining"] != remaining
        ]
        if changes:
            units.append(Unit(changes))
    return Planned(units, left_out)


CREDIT_REPAIRS: tuple[Repair, ...] = (
    Repair(
        repair_id=RECOMPUTE_BALANCES,
        meaning="Sets a balance, what is held of it and what the month has granted to what the ledger and "
        "the open holds make.",
        tables=("credit_balances",),
        plan=_recompute_balances,
        lock=LOCK_LEARNER,
    ),
    Repair(
        repair_id=RECOMPUTE_GRANTS,
        meaning="Sets what is left of each grant so that together it is what the ledger says.",
        tables=("credit_grants",),
        plan=_recompute_grants,
        lock=LOCK_LEARNER,
    ),
    Repair(
        repair_id=MATCH_HOLDS,
        meaning="Sets the credits of a hold to those that it took from grants, if the ledger agrees.",
        tables=("holds", "credit_balances"),
        plan=_match_holds,
        lock=LOCK_LEARNER,
    ),
)
