"""What a hold depends on when it is placed, and the statement that writes it if nothing has changed since."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from chassis.errors import ServiceError
from chassis.postgres import Connection, ConstraintViolation, Database
from subscription_service.domain.accounts import AccountStatus, invalid_user_reference
from subscription_service.domain.holds import Hold, LearnerHolds, Placement
from subscription_service.domain.plans import Limits
from subscription_service.domain.quota import DayUsage
from subscription_service.domain.subscriptions import SubscriptionStatus, limits_at
from subscription_service.store.clock import PinnedTime
from subscription_service.store.hold_rows import Books, hold_from
from subscription_service.store.wallets import read_wallets

Placed = Hold | ServiceError | None


class Placing:
    """Reads learners' books for placements, and places what is simple without a lock being waited for."""

    def __init__(self, *, database: Database, pinned_time: PinnedTime) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def place_at_once(self, placements: Sequence[Placement], *, deadline: float) -> dict[int, Placed]:
        """Decide by what is committed now, and write it in one statement; outcomes by their place.

        Missing are those that need a transaction: more than a single unit for a learner, credits, and
        learners that somebody else is changing, or has changed since they were read. Of those nothing is
        written. What was not written at all (a refusal, a hold that exists) holds for the moment of the read.
        """
        by_learner = _simple(placements)
        if not by_learner:
            return {}
        simple = [placement for placement in placements if placement.user_id in by_learner]

        async def work(connection: Connection) -> Books:
            return await self.read(connection, simple)

        books = await self._database.read(work, deadline=deadline, name="read_for_placing")
        outcomes: dict[int, Placed] = {}
        writing: list[LearnerHolds] = []
        for user_id, places in by_learner.items():
            book = books.get(user_id)
            if book is None:
                outcomes.update(dict.fromkeys(places, invalid_user_reference()))
                continue
            decided = [book.place(placements[place]) for place in places]
            if book.placed:
                if len(places) > 1 or placements[places[0]].tests > 1:
                    continue
                writing.append(book)
            outcomes.update(zip(places, decided, strict=True))
        written = await self._write(writing, deadline=deadline) if writing else frozenset()
        for book in writing:
            if book.user_id not in written:
                del outcomes[by_learner[book.user_id][0]]
        return outcomes

    async def read(self, connection: Connection, placements: Sequence[Placement]) -> Books:
        """The books of the learners that exist, with what these placements depend on.

        There is one row per placement; each lookup is forced to be one index probe by its LIMIT 1.
        """
        rows = await connection.fetch(
            """
            SELECT wanted.user_id, clock.now, (clock.now AT TIME ZONE 'utc')::date AS today,
                   account.status AS account_status,
                   subscription.status AS subscription_status, subscription.period_end,
                   subscription.daily_test_limit, subscription.monthly_credits,
                   coalesce(subscription.changes, 0) AS subscription_changes,
                   fallback.daily_test_limit AS default_daily_test_limit,
                   fallback.monthly_credits AS default_monthly_credits,
                   coalesce(usage.held, 0) AS usage_held, coalesce(usage.used, 0) AS usage_used,
                   rival.hold_id AS rival_id, wanted.subject AS wanted_subject,
                   hold.hold_id, hold.state, hold.tests, hold.credits, hold.subject, hold.method,
                   hold.idempotency_key, hold.day, hold.placed_at, hold.resolved_at
              FROM unnest($1::text[], $2::uuid[], $3::text[]) AS wanted (user_id, hold_id, subject)
             CROSS JOIN (SELECT coalesce($4::timestamptz, statement_timestamp()) AS now) AS clock
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
              LEFT JOIN LATERAL (SELECT hold_id
                                   FROM holds
                                  WHERE user_id = wanted.user_id AND subject = wanted.subject
                                    AND state = 'open'
                                  LIMIT 1) AS rival ON true
              LEFT JOIN LATERAL (SELECT hold_id, state, tests, credits, subject, method, idempotency_key,
                                        day, placed_at, resolved_at
                                   FROM holds
                                  WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
                                  LIMIT 1) AS hold ON true
            """,
            [placement.user_id for placement in placements],
            [placement.hold_id for placement in placements],
            [placement.subject for placement in placements],
            self._pinned_time(),
        )
        if len(rows) != len(placements):
            raise LookupError("no plan is the default plan")
        books: Books = {}
        for row in rows:
            user_id = row["user_id"]
            if row["account_status"] is None:
                continue
            book = books.get(user_id)
            if book is None:
                book = books[user_id] = _book(row)
            if row["rival_id"] is not None:
                book.open_subjects.add(row["wanted_subject"])
            if row["hold_id"] is not None:
                hold = hold_from(row)
                book.holds[hold.hold_id] = hold
        with_credits = {p.user_id for p in placements if p.credits and p.user_id in books}
        if with_credits:
            wallets = await read_wallets(connection, with_credits, now=rows[0]["now"])
            for user_id, wallet in wallets.items():
                books[user_id].wallet = wallet
        return books

    async def _write(self, books: Sequence[LearnerHolds], *, deadline: float) -> frozenset[str]:
        """Write the one hold that each of these books has placed; returns the learners of those written.

        The statement sees the tables as they were before it had its locks. What may have been committed in
        between shows in the rows that it writes, for those are taken as they are now: the day's counters must
        be those that were read, and a hold of the same id or subject violates its unique index, which undoes
        the whole statement. Before that, the subscription must be the one that was read, and the day the
        same: the read may be as old as the wait for a connection was.
        """
        books = sorted(books, key=lambda book: book.user_id)
        holds = [book.holds[hold_id] for book in books for hold_id in book.placed]
        usages = [book.days[book.today] for book in books]
        try:
            rows = await self._database.execute_write(
                _PLACE,
                [hold.user_id for hold in holds],
                [hold.hold_id for hold in holds],
                [hold.tests for hold in holds],
                [hold.subject for hold in holds],
                [hold.method for hold in holds],
                [hold.idempotency_key for hold in holds],
                [usage.held for usage in usages],
                [usage.used for usage in usages],
                [book.subscription_changes for book in books],
                books[0].today,
                books[0].now,
                self._pinned_time(),
                deadline=deadline,
                name="place_holds",
            )
        except ConstraintViolation:
            return frozenset()
        return frozenset(row["user_id"] for row in rows)


# Nothing here waits: whoever writes a learner's rows has locked the account first, and locked accounts are
# passed over. A hold takes one unit or none, so the counter that was read is the one before.
_PLACE = """
    WITH locked AS MATERIALIZED (
        SELECT wanted.user_id, wanted.hold_id, wanted.tests, wanted.subject, wanted.method,
               wanted.idempotency_key, wanted.held, wanted.used
          FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::text[], $5::text[], $6::text[],
                      $7::integer[], $8::integer[], $9::integer[])
               AS wanted (user_id, hold_id, tests, subject, method, idempotency_key, held, used, changes)
         CROSS JOIN LATERAL (SELECT user_id
                               FROM accounts
                              WHERE user_id = wanted.user_id AND status = 'active'
                              LIMIT 1
                                FOR NO KEY UPDATE SKIP LOCKED) AS account
         WHERE (coalesce($12::timestamptz, statement_timestamp()) AT TIME ZONE 'utc')::date = $10::date
           AND wanted.changes = coalesce((SELECT changes
                                            FROM subscriptions
                                           WHERE user_id = wanted.user_id
                                           LIMIT 1), 0)
    ), counted AS (
        INSERT INTO daily_usage (user_id, day, held, used)
        SELECT user_id, $10::date, held, used
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
           $10::date, $11::timestamptz
      FROM locked
     WHERE tests = 0 OR user_id IN (SELECT user_id FROM counted)
    RETURNING user_id
"""


def _simple(placements: Sequence[Placement]) -> dict[str, list[int]]:
    """The places of each learner's placements, if none of them takes credits."""
    by_learner: dict[str, list[int]] = {}
    for place, placement in enumerate(placements):
        by_learner.setdefault(placement.user_id, []).append(place)
    for user_id in {placement.user_id for placement in placements if placement.credits}:
        del by_learner[user_id]
    return by_learner


def _book(row: asyncpg.Record) -> LearnerHolds:
    now, today = row["now"], row["today"]
    limits = Limits(row["default_daily_test_limit"], row["default_monthly_credits"])
    if row["subscription_status"] is not None:
        limits = limits_at(
            SubscriptionStatus(row["subscription_status"]),
            row["period_end"],
            now,
            plan=Limits(row["daily_test_limit"], row["monthly_credits"]),
            default=limits,
        )
    active = AccountStatus(row["account_status"]) is AccountStatus.ACTIVE
    book = LearnerHolds(row["user_id"], now, today, limits if active else None)
    book.days[today] = DayUsage(today, row["usage_held"], row["usage_used"])
    book.subscription_changes = row["subscription_changes"]
    return book
