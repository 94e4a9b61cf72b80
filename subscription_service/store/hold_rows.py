"""Rows of holds and of the day's counters: read into learners' books, and written from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import asyncpg

from chassis.postgres import Connection
from chassis.postgres.rows import as_rows, from_row, names
from subscription_service.domain.holds import Hold, HoldState, LearnerHolds
from subscription_service.store.wallets import insert_held_credits, write_wallets

Books = dict[str, LearnerHolds]

HOLD = """user_id text, hold_id uuid, state text, tests integer, credits integer, subject text, method text,
          idempotency_key text, day date, placed_at timestamptz, resolved_at timestamptz"""
HOLD_COLUMNS = names(HOLD)
USAGE = "user_id text, day date, held integer, used integer"


async def write_books(connection: Connection, books: Iterable[LearnerHolds]) -> None:
    """Write the decisions; every value is absolute, and the learners are locked."""
    changed = [book for book in books if book.placed or book.resolved or book.wallet is not None]
    holds = [book.holds[hold_id] for book in changed for hold_id in book.placed | book.resolved]
    if holds:
        await connection.execute(_WRITE_HOLDS, as_rows(holds), as_rows(_usages(changed, holds)))
    wallets = [book.wallet for book in changed if book.wallet is not None]
    if wallets:
        await write_wallets(connection, wallets)
        taken = {
            (book.user_id, hold_id): parts
            for book in changed
            for hold_id, parts in book.held_credits.items()
            if hold_id in book.placed
        }
        if taken:
            await insert_held_credits(connection, taken)


# Existing holds are written by an upsert, too. It always goes through the primary key, while the plan of an
# UPDATE that was made when the table was small reads all of it until the next ANALYZE.
_WRITE_HOLDS = f"""
    WITH written AS (
        INSERT INTO holds ({HOLD_COLUMNS})
        SELECT {HOLD_COLUMNS}
          FROM json_to_recordset($1) AS hold ({HOLD})
            ON CONFLICT ON CONSTRAINT holds_once DO UPDATE
               SET state = excluded.state, resolved_at = excluded.resolved_at
             WHERE holds.state = 'open'
    )
    INSERT INTO daily_usage ({names(USAGE)})
    SELECT {names(USAGE)}
      FROM json_to_recordset($2) AS counted ({USAGE})
        ON CONFLICT ON CONSTRAINT daily_usage_once_per_day DO UPDATE
           SET held = excluded.held, used = excluded.used
"""


def _usages(books: Iterable[LearnerHolds], holds: Iterable[Hold]) -> list[dict[str, Any]]:
    """The new counters of the days that these holds count against."""
    changed = {(hold.user_id, hold.day) for hold in holds if hold.tests}
    return [
        {"user_id": book.user_id, "day": usage.day, "held": usage.held, "used": usage.used}
        for book in books
        for usage in book.days.values()
        if (book.user_id, usage.day) in changed
    ]


def hold_from(row: asyncpg.Record, prefix: str = "") -> Hold:
    return from_row(Hold, row, prefix=prefix, state=HoldState(row[f"{prefix}state"]))
