"""Holds and the counters of the day, which always move together, in one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from subscription_service.domain.accounts import AccountStatus
from subscription_service.domain.holds import Hold, HoldState, LearnerHolds, Placement
from subscription_service.domain.plans import Limits
from subscription_service.domain.quota import DayUsage
from subscription_service.domain.subscriptions import SubscriptionStatus, limits_at
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.locks import Locked, LockedLearners, lock_learners
from subscription_service.store.wallets import (
    insert_held_credits,
    read_held_credits,
    read_wallets,
    write_wallets,
)


class HoldReference(NamedTuple):
    user_id: str
    hold_id: UUID


class OpenHoldPosition(NamedTuple):
    """Where a page of open holds ended."""

    placed_at: datetime
    user_id: str
    hold_id: UUID


PlaceOutcome = Hold | ServiceError | Locked | None
ResolveOutcome = Hold | ServiceError | Locked
Books = dict[str, LearnerHolds]


class HoldStore:
    """Places and resolves holds, a batch in one transaction."""

    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def place_holds(
        self, placements: Sequence[Placement], *, wait: bool, deadline: float
    ) -> list[PlaceOutcome]:
        """Place these in their order; None where another open hold of the learner has the subject."""

        async def work(connection: Connection) -> list[PlaceOutcome]:
            learners = await lock_learners(connection, [p.user_id for p in placements], wait=wait)
            ours = [p for p in placements if p.user_id in learners.statuses]
            if not ours:
                return [learners.refusal(p.user_id) for p in placements]
            books = await self._read_for_placing(connection, ours, learners)
            outcomes = [
                books[p.user_id].place(p) if p.user_id in books else learners.refusal(p.user_id)
                for p in placements
            ]
            await _write(connection, books.values())
            return outcomes

        return await self._database.write(work, deadline=deadline, name="place_holds")

    async def commit_holds(
        self, references: Sequence[HoldReference], *, wait: bool, deadline: float
    ) -> list[ResolveOutcome]:
        """Spend what these hold, in their order."""
        return await self._resolve(references, LearnerHolds.commit, wait, deadline, "commit_holds")

    async def release_holds(
        self, references: Sequence[HoldReference], *, wait: bool, deadline: float
    ) -> list[ResolveOutcome]:
        """Give back what these hold, in their order; an unknown one is released before it was placed."""
        return await self._resolve(references, LearnerHolds.release, wait, deadline, "release_holds")

    async def list_open_holds(
        self,
        *,
        method: str,
        older_than_seconds: float,
        after: OpenHoldPosition | None,
        limit: int,
        deadline: float,
    ) -> list[Hold]:
        """Open holds that this method's requests placed at least so long ago, oldest first."""

        async def work(connection: Connection) -> list[Hold]:
            rows = await connection.fetch(
                """
                SELECT user_id, hold_id, state, tests, credits, subject, method, idempotency_key,
                       day, placed_at, resolved_at
                  FROM holds
                 WHERE resolved_at IS NULL AND method = $1
                   AND placed_at <= coalesce($2::timestamptz, statement_timestamp())
                                    - make_interval(secs => $3::float8)
                   AND ($4::timestamptz IS NULL OR (placed_at, user_id, hold_id) > ($4, $5::text, $6::uuid))
                 ORDER BY placed_at, user_id, hold_id
                 LIMIT $7
                """,
                method,
                self._pinned_time(),
                older_than_seconds,
                *(after or (None, None, None)),
                limit,
            )
            return [_hold(row) for row in rows]

        return await self._database.read(work, deadline=deadline, name="list_open_holds")

    async def _read_for_placing(
        self, connection: Connection, placements: Sequence[Placement], learners: LockedLearners
    ) -> Books:
        """One row per placement; each lookup is forced to be one index probe by its LIMIT 1."""
        rows = await connection.fetch(
            """
            SELECT wanted.user_id, clock.now, (clock.now AT TIME ZONE 'utc')::date AS today,
                   subscription.status AS subscription_status, subscription.period_end,
                   subscription.daily_test_limit, subscription.monthly_credits,
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
              LEFT JOIN LATERAL (SELECT subscribed.status, subscribed.period_end,
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
        books: Books = {}
        for row in rows:
            user_id = row["user_id"]
            book = books.get(user_id)
            if book is None:
                book = books[user_id] = _book(row, learners.statuses[user_id])
            if row["rival_id"] is not None:
                book.open_subjects.add(row["wanted_subject"])
            if row["hold_id"] is not None:
                hold = _hold(row)
                book.holds[hold.hold_id] = hold
        if len(rows) != len(placements):
            raise LookupError("no plan is the default plan")
        with_credits = {placement.user_id for placement in placements if placement.credits}
        if with_credits:
            wallets = await read_wallets(connection, with_credits, now=rows[0]["now"])
            for user_id, wallet in wallets.items():
                books[user_id].wallet = wallet
        return books

    async def _resolve(
        self,
        references: Sequence[HoldReference],
        decide: Callable[[LearnerHolds, UUID], Hold | ServiceError],
        wait: bool,
        deadline: float,
        name: str,
    ) -> list[ResolveOutcome]:
        async def work(connection: Connection) -> list[ResolveOutcome]:
            learners = await lock_learners(connection, [each.user_id for each in references], wait=wait)
            ours = [each for each in references if each.user_id in learners.statuses]
            if not ours:
                return [learners.refusal(each.user_id) for each in references]
            books = await self._read_for_resolving(connection, ours)
            outcomes: list[ResolveOutcome] = [
                decide(books[each.user_id], each.hold_id)
                if each.user_id in books
                else learners.refusal(each.user_id)
                for each in references
            ]
            await _write(connection, books.values())
            return outcomes

        return await self._database.write(work, deadline=deadline, name=name)

    async def _read_for_resolving(self, connection: Connection, references: Sequence[HoldReference]) -> Books:
        rows = await connection.fetch(
            """
            SELECT wanted.user_id, clock.now, (clock.now AT TIME ZONE 'utc')::date AS today,
                   coalesce(usage.held, 0) AS usage_held, coalesce(usage.used, 0) AS usage_used,
                   hold.hold_id, hold.state, hold.tests, hold.credits, hold.subject, hold.method,
                   hold.idempotency_key, hold.day, hold.placed_at, hold.resolved_at
              FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, hold_id)
             CROSS JOIN (SELECT coalesce($3::timestamptz, statement_timestamp()) AS now) AS clock
              LEFT JOIN LATERAL (SELECT hold_id, state, tests, credits, subject, method, idempotency_key,
                                        day, placed_at, resolved_at
                                   FROM holds
                                  WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
                                  LIMIT 1) AS hold ON true
              LEFT JOIN LATERAL (SELECT held, used
                                   FROM daily_usage
                                  WHERE user_id = wanted.user_id AND day = hold.day
                                  LIMIT 1) AS usage ON true
            """,
            [each.user_id for each in references],
            [each.hold_id for each in references],
            self._pinned_time(),
        )
        books: Books = {}
        with_credits: list[HoldReference] = []
        for row in rows:
            user_id = row["user_id"]
            book = books.get(user_id)
            if book is None:
                book = books[user_id] = LearnerHolds(user_id, row["now"], row["today"], None)
            if row["hold_id"] is not None:
                hold = _hold(row)
                book.holds[hold.hold_id] = hold
                book.days[hold.day] = DayUsage(hold.day, row["usage_held"], row["usage_used"])
                if hold.credits and hold.state is HoldState.OPEN:
                    with_credits.append(HoldReference(user_id, hold.hold_id))
        if with_credits:
            wallets = await read_wallets(
                connection, {each.user_id for each in with_credits}, now=rows[0]["now"]
            )
            held = await read_held_credits(connection, wallets, set(with_credits))
            for user_id, hold_id in with_credits:
                books[user_id].wallet = wallets[user_id]
                books[user_id].held_credits[hold_id] = held[hold_id]
        return books


async def _write(connection: Connection, books: Iterable[LearnerHolds]) -> None:
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


def _book(row: asyncpg.Record, account: AccountStatus) -> LearnerHolds:
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
    book = LearnerHolds(row["user_id"], now, today, limits if account is AccountStatus.ACTIVE else None)
    book.days[today] = DayUsage(today, row["usage_held"], row["usage_used"])
    return book


def _hold(row: asyncpg.Record) -> Hold:
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
