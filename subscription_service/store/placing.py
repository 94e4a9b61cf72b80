"""Optimistic placement of holds: a read of what it depends on, and a write if nothing has changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.errors import ServiceError
from chassis.postgres import Connection, ConstraintViolation, Database
from chassis.postgres.rows import RowType, names
from subscription_service.domain.accounts import AccountStatus, invalid_user_reference
from subscription_service.domain.holds import Hold, LearnerHolds, Placed, Placement
from subscription_service.domain.quota import DayUsage
from subscription_service.store.clock import PinnedTime
from subscription_service.store.hold_rows import HOLD, HOLD_COLUMNS, Books, hold_from
from subscription_service.store.limits import limits_from
from subscription_service.store.wallets import read_wallets


class Placing:
    """Reads learners' books for placements, and writes simple placements without waiting for a lock."""

    def __init__(self, *, database: Database, pinned_time: PinnedTime) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def place_at_once(
        self, placements: Sequence[Placement], *, deadline: float
    ) -> dict[int, Placed | ServiceError]:
        """Decide by the committed state, and write it in one statement; outcomes by their place.

        Placements that need a transaction have no outcome here, and nothing is written for them: those with
        credits, those of a learner with more than one unit, and those of learners whom another transaction is
        changing, or has changed since they were read. An outcome without a write (a refusal, an existing
        hold) is true for the moment of the read.
        """
        by_learner = _simple(placements)
        if not by_learner:
            return {}
        simple = [placement for placement in placements if placement.user_id in by_learner]

        async def work(connection: Connection) -> Books:
            return await self.read(connection, simple)

        books = await self._database.read(work, deadline=deadline, name="read_for_placing")
        outcomes: dict[int, Placed | ServiceError] = {}
        writing: dict[int, LearnerHolds] = {}
        for user_id, places in by_learner.items():
            book = books.get(user_id)
            if book is None:
                outcomes.update(dict.fromkeys(places, invalid_user_reference()))
                continue
            decided = [book.place(placements[place]) for place in places]
            if book.placed:
                if len(places) == 1 and placements[places[0]].tests <= 1:
                    writing[places[0]] = book
                continue
            outcomes.update(zip(places, decided, strict=True))
        placed_at = await self._write(list(writing.values()), deadline=deadline) if writing else {}
        for place, book in writing.items():
            if book.user_id in placed_at:
                hold = book.holds[placements[place].hold_id]
                outcomes[place] = Placed(_placed_at(hold, placed_at[book.user_id]))
        return outcomes

    async def read(self, connection: Connection, placements: Sequence[Placement]) -> Books:
        """The books of the learners that exist, with everything that these placements depend on."""
        rows = await connection.fetch(_READ, _WANTED.values(placements), self._pinned_time())
        if len(rows) != len(placements):
            raise LookupError("no plan is the default plan")
        books: Books = {}
        for row in rows:
            user_id = row["learner"]
            if row["account_status"] is None:
                continue
            book = books.get(user_id)
            if book is None:
                book = books[user_id] = _book(row)
            if row["rival_hold_id"] is not None:
                rival = hold_from(row, "rival_")
                book.open_holds[rival.subject] = rival
            if row["hold_id"] is not None:
                hold = hold_from(row)
                book.holds[hold.hold_id] = hold
        with_credits = {p.user_id for p in placements if p.credits and p.user_id in books}
        if with_credits:
            wallets = await read_wallets(connection, with_credits, now=rows[0]["now"])
            for user_id, wallet in wallets.items():
                books[user_id].wallet = wallet
        return books

    async def _write(self, books: Sequence[LearnerHolds], *, deadline: float) -> Mapping[str, datetime]:
        """Write the one hold that each of these books has placed; returns when, for the learners written.

        The statement sees the tables as they were before it had its locks. Changes that were committed in
        between show in the rows that it writes, because a write takes the newest version: the day's counters
        must be the ones that were read, and a hold of the same id or subject violates its unique index, which
        undoes the whole statement. The statement also checks that the subscription is the one that was read,
        and that the day is the same: the read may be as old as the wait for a connection was.
        """
        books = sorted(books, key=lambda book: book.user_id)
        holds = [_new_hold(book) for book in books]
        today = books[0].today
        try:
            rows = await self._database.execute_write(
                _PLACE,
                _NEW_HOLD.values(holds),
                today,
                self._pinned_time(),
                deadline=deadline,
                name="place_holds",
            )
        except ConstraintViolation:
            return {}
        return {row["user_id"]: row["placed_at"] for row in rows}


@dataclass(slots=True)
class _NewHold:
    """A hold to write; `held` and `used` are the day's counters after it, `changes` what was read before."""

    user_id: str
    hold_id: UUID
    tests: int
    subject: str
    method: str
    idempotency_key: str
    held: int
    used: int
    changes: int


_NEW_HOLD = RowType(
    "new_hold",
    """
    user_id text, hold_id uuid, tests integer, subject text, method text, idempotency_key text, held integer,
    used integer, changes integer
    """,
)


def _placed_at(hold: Hold, placed_at: datetime) -> Hold:
    """An open hold with another time. `replace` would take three times as long, in each start."""
    return Hold(
        hold.user_id,
        hold.hold_id,
        hold.state,
        hold.tests,
        hold.credits,
        hold.subject,
        hold.method,
        hold.idempotency_key,
        hold.day,
        placed_at,
        None,
    )


def _new_hold(book: LearnerHolds) -> _NewHold:
    (hold_id,) = book.placed
    hold, usage = book.holds[hold_id], book.days[book.today]
    return _NewHold(
        hold.user_id,
        hold.hold_id,
        hold.tests,
        hold.subject,
        hold.method,
        hold.idempotency_key,
        usage.held,
        usage.used,
        book.subscription_changes,
    )


_RIVAL = ", ".join(f"rival.{column} AS rival_{column}" for column in HOLD_COLUMNS.split(", "))
_WANTED = RowType("wanted_hold", "user_id text, hold_id uuid, subject text")
# One row per placement. Each lookup is forced to be one index probe by its LIMIT 1.
_READ = f"""
    SELECT wanted.user_id AS learner, clock.now, (clock.now AT TIME ZONE 'utc')::date AS today,
           account.status AS account_status,
           subscription.status, subscription.period_end,
           subscription.daily_test_limit, subscription.monthly_credits,
           coalesce(subscription.changes, 0) AS subscription_changes,
           fallback.daily_test_limit AS default_daily_test_limit,
           fallback.monthly_credits AS default_monthly_credits,
           coalesce(usage.held, 0) AS usage_held, coalesce(usage.used, 0) AS usage_used,
           {_RIVAL},
           {names(HOLD, of="hold")}
      FROM {_WANTED.unnest(1)} AS wanted
     CROSS JOIN (SELECT coalesce($2::timestamptz, statement_timestamp()) AS now) AS clock
     CROSS JOIN (SELECT daily_test_limit, monthly_credits
                   FROM plans
                  WHERE is_default
                  LIMIT 1) AS fallback
      LEFT JOIN LATERAL (SELECT status
                           FROM accounts
                          WHERE user_id = wanted.user_id
                          LIMIT 1) AS account ON true
      LEFT JOIN LATERAL (SELECT subscribed.status, subscribed.period_end, subscribed.changes,
                                plan.daily_test_limit, plan.monthly_credits
                           FROM subscriptions AS subscribed
                           JOIN plans AS plan ON plan.plan_id = subscribed.plan_id
                          WHERE subscribed.user_id = wanted.user_id
                          LIMIT 1) AS subscription ON true
      LEFT JOIN LATERAL (SELECT held, used
                           FROM daily_usage
                          WHERE user_id = wanted.user_id
                            AND day = (clock.now AT TIME ZONE 'utc')::date
                          LIMIT 1) AS usage ON true
      LEFT JOIN LATERAL (SELECT {HOLD_COLUMNS}
                           FROM holds
                          WHERE user_id = wanted.user_id AND subject = wanted.subject
                            AND state = 'open'
                          LIMIT 1) AS rival ON true
      LEFT JOIN LATERAL (SELECT {HOLD_COLUMNS}
                           FROM holds
                          WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
                          LIMIT 1) AS hold ON true
"""

# Nothing here waits: every writer of a learner's rows has locked the account first, and locked accounts are
# passed over. A hold takes one unit or none, so the counter that was read is the one before. `placed_at` is
# the time of this statement, not of the read: a reader of old holds relies on it (see the contract).
_PLACE = f"""
    WITH locked AS MATERIALIZED (
        SELECT {names(_NEW_HOLD.columns, of="wanted")}
          FROM {_NEW_HOLD.unnest(1)} AS wanted
         CROSS JOIN LATERAL (SELECT user_id
                               FROM accounts
                              WHERE user_id = wanted.user_id AND status = 'active'
                              LIMIT 1
                                FOR NO KEY UPDATE SKIP LOCKED) AS account
         WHERE (coalesce($3::timestamptz, statement_timestamp()) AT TIME ZONE 'utc')::date = $2::date
           AND wanted.changes = coalesce((SELECT changes
                                            FROM subscriptions
                                           WHERE user_id = wanted.user_id
                                           LIMIT 1), 0)
    ), counted AS (
        INSERT INTO daily_usage (user_id, day, held, used)
        SELECT user_id, $2::date, held, used
          FROM locked
         WHERE tests = 1
            ON CONFLICT ON CONSTRAINT daily_usage_once_per_day DO UPDATE
               SET held = excluded.held
             WHERE daily_usage.held = excluded.held - 1 AND daily_usage.used = excluded.used
        RETURNING user_id
    )
    INSERT INTO holds (user_id, hold_id, state, tests, credits, subject, method, idempotency_key,
                       day, placed_at)
    SELECT user_id, hold_id, 'open', tests, 0, subject, method, idempotency_key,
           $2::date, coalesce($3::timestamptz, statement_timestamp())
      FROM locked
     WHERE tests = 0 OR user_id IN (SELECT user_id FROM counted)
    RETURNING user_id, placed_at
"""


def _simple(placements: Sequence[Placement]) -> dict[str, list[int]]:
    """The places of each learner's placements, without the learners who ask for credits."""
    by_learner: dict[str, list[int]] = {}
    for place, placement in enumerate(placements):
        by_learner.setdefault(placement.user_id, []).append(place)
    for user_id in {placement.user_id for placement in placements if placement.credits}:
        del by_learner[user_id]
    return by_learner


def _book(row: asyncpg.Record) -> LearnerHolds:
    now, today = row["now"], row["today"]
    active = row["account_status"] == AccountStatus.ACTIVE
    book = LearnerHolds(row["learner"], now, today, limits_from(row) if active else None)
    book.days[today] = DayUsage(today, row["usage_held"], row["usage_used"])
    book.subscription_changes = row["subscription_changes"]
    return book
