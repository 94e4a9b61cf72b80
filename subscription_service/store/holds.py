"""Holds and the counters of the day, which always move together, in one statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.rows import as_rows, names
from chassis.rpc.paging import Page
from subscription_service.domain.holds import (
    Hold,
    HoldPosition,
    HoldReference,
    HoldState,
    LearnerHolds,
    OpenHoldsQuery,
    Placed,
    Placement,
)
from subscription_service.domain.quota import DayUsage
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.hold_rows import HOLD, HOLD_COLUMNS, Books, hold_from, write_books
from subscription_service.store.locks import lock_learners
from subscription_service.store.placing import Placing
from subscription_service.store.wallets import read_held_credits, read_wallets

PlaceOutcome = Placed | ServiceError | Locked
ResolveOutcome = Hold | ServiceError | Locked


class HoldStore:
    """Places and resolves holds, a batch in one transaction."""

    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time
        self._placing = Placing(database=database, pinned_time=pinned_time)

    async def place_holds(self, items: Sequence[Item[Placement]], wait: bool) -> list[PlaceOutcome]:
        """Place these in their order.

        Most placements need no transaction of several statements. One statement reads what they depend on,
        and a second one writes those that pass an optimistic check: nothing has changed since the read. The
        others are decided again, under locks.
        """
        placements = [item.request for item in items]
        deadline = latest_deadline(items)
        outcomes: dict[int, PlaceOutcome] = {}
        if not wait:
            outcomes.update(await self._placing.place_at_once(placements, deadline=deadline))
        places = [place for place in range(len(placements)) if place not in outcomes]
        if places:
            left = [placements[place] for place in places]
            locked: Sequence[PlaceOutcome]
            try:
                locked = await self._place_under_locks(left, wait=wait, deadline=deadline)
            except ServiceError as error:  # it is only theirs: the others have been placed
                locked = [error] * len(places)
            outcomes.update(zip(places, locked, strict=True))
        return [outcomes[place] for place in range(len(placements))]

    async def commit_holds(self, items: Sequence[Item[HoldReference]], wait: bool) -> list[ResolveOutcome]:
        """Spend the units of these, in their order."""
        return await self._resolve(items, LearnerHolds.commit, wait, "commit_holds")

    async def release_holds(self, items: Sequence[Item[HoldReference]], wait: bool) -> list[ResolveOutcome]:
        """Give the units of these back, in their order. An unknown hold is released before it is placed."""
        return await self._resolve(items, LearnerHolds.release, wait, "release_holds")

    async def list_open_holds(self, item: Item[OpenHoldsQuery], page: Page) -> list[Hold]:
        """Open holds, the oldest first."""
        query = item.request
        after = _position_of(page) or query.placed_after or (None, None, None)

        async def work(connection: Connection) -> list[Hold]:
            rows = await connection.fetch(
                f"""
                SELECT {HOLD_COLUMNS}
                  FROM holds
                 WHERE resolved_at IS NULL AND method = $1
                   AND placed_at <= coalesce($2::timestamptz, statement_timestamp())
                                    - make_interval(secs => $3::float8)
                   AND ($4::timestamptz IS NULL OR (placed_at, user_id, hold_id) > ($4, $5::text, $6::uuid))
                 ORDER BY placed_at, user_id, hold_id
                 LIMIT $7
                """,
                query.method,
                self._pinned_time(),
                query.older_than_seconds,
                *after,
                page.limit,
            )
            return [hold_from(row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_open_holds")

    async def _place_under_locks(
        self, placements: Sequence[Placement], *, wait: bool, deadline: float
    ) -> list[PlaceOutcome]:
        async def work(connection: Connection) -> list[PlaceOutcome]:
            learners = await lock_learners(connection, [p.user_id for p in placements], wait=wait)
            ours = [p for p in placements if p.user_id in learners.statuses]
            books = await self._placing.read(connection, ours) if ours else {}
            outcomes = [
                books[p.user_id].place(p) if p.user_id in books else learners.refusal(p.user_id)
                for p in placements
            ]
            await write_books(connection, books.values())
            return outcomes

        return await self._database.write(work, deadline=deadline, name="place_holds")

    async def _resolve(
        self,
        items: Sequence[Item[HoldReference]],
        decide: Callable[[LearnerHolds, UUID], Hold | ServiceError],
        wait: bool,
        name: str,
    ) -> list[ResolveOutcome]:
        references = [item.request for item in items]

        async def work(connection: Connection) -> list[ResolveOutcome]:
            learners = await lock_learners(connection, [each.user_id for each in references], wait=wait)
            ours = [each for each in references if each.user_id in learners.statuses]
            books = await self._read_for_resolving(connection, ours) if ours else {}
            outcomes = [
                decide(books[each.user_id], each.hold_id)
                if each.user_id in books
                else learners.refusal(each.user_id)
                for each in references
            ]
            await write_books(connection, books.values())
            return outcomes

        return await self._database.write(work, deadline=latest_deadline(items), name=name)

    async def _read_for_resolving(self, connection: Connection, references: Sequence[HoldReference]) -> Books:
        rows = await connection.fetch(_READ_FOR_RESOLVING, as_rows(references), self._pinned_time())
        books: Books = {}
        with_credits: set[HoldReference] = set()
        for row in rows:
            user_id = row["learner"]
            book = books.get(user_id)
            if book is None:
                book = books[user_id] = LearnerHolds(user_id, row["now"], row["today"], None)
            if row["hold_id"] is not None:
                hold = hold_from(row)
                book.holds[hold.hold_id] = hold
                book.days[hold.day] = DayUsage(hold.day, row["usage_held"], row["usage_used"])
                if hold.credits and hold.state is HoldState.OPEN:
                    with_credits.add(HoldReference(user_id, hold.hold_id))
        if with_credits:
            wallets = await read_wallets(
                connection, {each.user_id for each in with_credits}, now=rows[0]["now"]
            )
            held = await read_held_credits(connection, wallets, with_credits)
            for each in with_credits:
                books[each.user_id].wallet = wallets[each.user_id]
                books[each.user_id].held_credits[each.hold_id] = held[each.hold_id]
        return books


_READ_FOR_RESOLVING = f"""
    SELECT wanted.user_id AS learner, clock.now, (clock.now AT TIME ZONE 'utc')::date AS today,
           coalesce(usage.held, 0) AS usage_held, coalesce(usage.used, 0) AS usage_used,
           {names(HOLD, of="hold")}
      FROM json_to_recordset($1) AS wanted (user_id text, hold_id uuid)
     CROSS JOIN (SELECT coalesce($2::timestamptz, statement_timestamp()) AS now) AS clock
      LEFT JOIN LATERAL (SELECT {HOLD_COLUMNS}
                           FROM holds
                          WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
                          LIMIT 1) AS hold ON true
      LEFT JOIN LATERAL (SELECT held, used
                           FROM daily_usage
                          WHERE user_id = wanted.user_id AND day = hold.day
                          LIMIT 1) AS usage ON true
"""


def _position_of(page: Page) -> HoldPosition | None:
    if page.after is None:
        return None
    placed_at, user_id, hold_id = map(str, page.after)
    return HoldPosition(datetime.fromisoformat(placed_at), user_id, UUID(hold_id))
