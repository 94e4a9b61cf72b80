"""Holds and the counters of the day, which always move together, in one statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chassis.errors import ServiceError
from chassis.postgres.isolation import Locked
from chassis.postgres import Connection, Database
from subscription_service.domain.holds import Hold, HoldState, LearnerHolds, Placement
from subscription_service.domain.quota import DayUsage
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.hold_rows import Books, hold_from, write_books
from subscription_service.store.locks import lock_learners
from subscription_service.store.placing import Placing
from subscription_service.store.wallets import read_held_credits, read_wallets


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


class HoldStore:
    """Places and resolves holds, a batch in one transaction."""

    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time
        self._placing = Placing(database=database, pinned_time=pinned_time)

    async def place_holds(
        self, placements: Sequence[Placement], *, wait: bool, deadline: float
    ) -> list[PlaceOutcome]:
        """Place these in their order; None where another open hold of the learner has the subject.

        Most placements need no transaction of several statements: what they depend on is read, and one
        statement writes those of which nothing has changed since. The others are decided anew, under locks.
        """
        outcomes: dict[int, PlaceOutcome] = {}
        if not wait:
            outcomes.update(await self._placing.place_at_once(placements, deadline=deadline))
            if len(outcomes) == len(placements):
                return [outcomes[place] for place in range(len(placements))]
        places = [place for place in range(len(placements)) if place not in outcomes]
        left = [placements[place] for place in places]

        async def work(connection: Connection) -> list[PlaceOutcome]:
            learners = await lock_learners(connection, [p.user_id for p in left], wait=wait)
            ours = [p for p in left if p.user_id in learners.statuses]
            if not ours:
                return [learners.refusal(p.user_id) for p in left]
            books = await self._placing.read(connection, ours)
            placed = [
                books[p.user_id].place(p) if p.user_id in books else learners.refusal(p.user_id) for p in left
            ]
            await write_books(connection, books.values())
            return placed

        locked: Sequence[PlaceOutcome]
        try:
            locked = await self._database.write(work, deadline=deadline, name="place_holds")
        except ServiceError as error:  # it is theirs alone: the others have what they asked for
            locked = [error] * len(places)
        outcomes.update(zip(places, locked, strict=True))
        return [outcomes[place] for place in range(len(placements))]

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
            return [hold_from(row) for row in rows]

        return await self._database.read(work, deadline=deadline, name="list_open_holds")

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
            await write_books(connection, books.values())
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
                hold = hold_from(row)
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
