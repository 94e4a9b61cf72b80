"""Rows of holds and of the day's counters: read into learners' books, and written from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from chassis.postgres import Connection
from subscription_service.domain.holds import Hold, HoldState, LearnerHolds
from subscription_service.store.wallets import insert_held_credits, write_wallets

Books = dict[str, LearnerHolds]


async def write_books(connection: Connection, books: Iterable[LearnerHolds]) -> None:
    """Write what was decided; every value is absolute, and the learners are locked."""
    changed = [book for book in books if book.placed or book.resolved or book.wallet is not None]
    holds = [book.holds[hold_id] for book in changed for hold_id in book.placed | book.resolved]
    if holds:
        await connection.execute(_WRITE_HOLDS, *_hold_columns(holds), *_usage_columns(changed, holds))
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


# An upsert also for holds that are known to exist: it always goes through the primary key, while the plan of
# an UPDATE, made when the table was small, would read all of it until the next ANALYZE.
_WRITE_HOLDS = """
    WITH written AS (
        INSERT INTO holds (user_id, hold_id, state, tests, credits, subject, method, idempotency_key,
                           day, placed_at, resolved_at)
        SELECT user_id, hold_id, state, tests, credits, subject, method, idempotency_key,
               day, placed_at, resolved_at
          FROM unnest($1::text[], $2::uuid[], $3::text[], $4::integer[], $5::integer[], $6::text[],
                      $7::text[], $8::text[], $9::date[], $10::timestamptz[], $11::timestamptz[])
               AS hold (user_id, hold_id, state, tests, credits, subject, method, idempotency_key,
                        day, placed_at, resolved_at)
            ON CONFLICT ON CONSTRAINT holds_once DO UPDATE
               SET state = excluded.state, resolved_at = excluded.resolved_at
             WHERE holds.state = 'open'
    )
    INSERT INTO daily_usage (user_id, day, held, used)
    SELECT user_id, day, held, used
      FROM unnest($12::text[], $13::date[], $14::integer[], $15::integer[])
           AS counted (user_id, day, held, used)
        ON CONFLICT ON CONSTRAINT daily_usage_once_per_day DO UPDATE
           SET held = excluded.held, used = excluded.used
"""


def _hold_columns(holds: Sequence[Hold]) -> tuple[list[Any], ...]:
    return (
        [hold.user_id for hold in holds],
        [hold.hold_id for hold in holds],
        [hold.state for hold in holds],
        [hold.tests for hold in holds],
        [hold.credits for hold in holds],
        [hold.subject for hold in holds],
        [hold.method for hold in holds],
        [hold.idempotency_key for hold in holds],
        [hold.day for hold in holds],
        [hold.placed_at for hold in holds],
        [hold.resolved_at for hold in holds],
    )


def _usage_columns(books: Iterable[LearnerHolds], holds: Iterable[Hold]) -> tuple[list[Any], ...]:
    """The counters, as they should be, of the days that these holds count against."""
    changed = {(hold.user_id, hold.day) for hold in holds if hold.tests}
    usages = [
        (book.user_id, usage)
        for book in books
        for usage in book.days.values()
        if (book.user_id, usage.day) in changed
    ]
    return (
        [user_id for user_id, _ in usages],
        [usage.day for _, usage in usages],
        [usage.held for _, usage in usages],
        [usage.used for _, usage in usages],
    )


def hold_from(row: asyncpg.Record) -> Hold:
    return Hold(
        row["user_id"],
        row["hold_id"],
        HoldState(row["state"]),
        row["tests"],
        row["credits"],
        row["subject"],
        row["method"],
        row["idempotency_key"],
        row["day"],
        row["placed_at"],
        row["resolved_at"],
    )
