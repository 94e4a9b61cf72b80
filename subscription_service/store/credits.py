"""Credits in the database: adjusting balances, settling what is due, reading the ledger."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from chassis.batch import Item, Outcome
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render, write_keyed
from chassis.postgres.rows import as_rows, from_row
from chassis.rpc.paging import Page
from subscription_service.domain.accounts import ListOwner
from subscription_service.domain.credits import CreditEntry, CreditOrder, EntryKind, RefundableHold
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.locks import LockedLearners, lock_learners
from subscription_service.store.wallets import ENTRY_COLUMNS, read_settled_wallets, write_wallets

OPERATION_CONSTRAINT = "credit_entries_one_per_operation"


class CreditStore:
    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def adjust_credits(
        self, items: Sequence[Item[CreditOrder]], wait: bool, *, render: Render[CreditEntry]
    ) -> list[Outcome | Locked]:
        """Carry out these orders in their sequence, each once per key.

        An operation that is in the ledger, although its key is forgotten, violates `OPERATION_CONSTRAINT`.
        """

        async def lock(connection: Connection, items: Sequence[Item[CreditOrder]]) -> LockedLearners:
            return await lock_learners(connection, [item.request.user_id for item in items], wait=wait)

        async def change(
            connection: Connection, learners: LockedLearners, items: Sequence[Item[CreditOrder]]
        ) -> list[CreditEntry | ServiceError | Locked]:
            orders = [item.request for item in items]
            wallets = await read_settled_wallets(connection, learners.statuses, pinned=self._pinned_time())
            refundable = await _refundable_holds(connection, orders)
            outcomes = [
                learners.refusal_unless_active(order.user_id)
                or wallets[order.user_id].carry_out(order, refundable.get((order.user_id, order.refund_of)))
                for order in orders
            ]
            await write_wallets(connection, wallets.values())
            return outcomes

        return await write_keyed(
            self._database, items, lock=lock, change=change, render=render, name="adjust_credits"
        )

    async def settle_credits(
        self, user_ids: Sequence[str], wait: bool, *, deadline: float
    ) -> list[ServiceError | Locked | None]:
        """Enter into the ledgers what is due by now: expiries, and the credits of the month."""

        async def work(connection: Connection) -> list[ServiceError | Locked | None]:
            learners = await lock_learners(connection, user_ids, wait=wait)
            wallets = await read_settled_wallets(connection, learners.statuses, pinned=self._pinned_time())
            await write_wallets(connection, wallets.values())
            return [
                None if user_id in learners.statuses else learners.refusal(user_id) for user_id in user_ids
            ]

        return await self._database.write(work, deadline=deadline, name="settle_credits")

    async def list_entries(self, item: Item[ListOwner], page: Page) -> list[CreditEntry]:
        """A learner's ledger, newest first."""
        (before,) = page.after or (None,)

        async def work(connection: Connection) -> list[CreditEntry]:
            rows = await connection.fetch(
                f"""
                SELECT {ENTRY_COLUMNS}
                  FROM credit_entries
                 WHERE user_id = $1 AND ($2::integer IS NULL OR entry_number < $2)
                 ORDER BY entry_number DESC
                 LIMIT $3
                """,
                item.request.user_id,
                before,
                page.limit,
            )
            return [from_row(CreditEntry, row, kind=EntryKind(row["kind"])) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_credit_entries")


async def _refundable_holds(
    connection: Connection, orders: Collection[CreditOrder]
) -> dict[tuple[str, UUID | None], RefundableHold]:
    wanted = [
        {"user_id": order.user_id, "hold_id": order.refund_of}
        for order in orders
        if order.refund_of is not None
    ]
    if not wanted:
        return {}
    rows = await connection.fetch(
        """
        SELECT hold.user_id, hold.hold_id, hold.credits,
               EXISTS (SELECT
                         FROM credit_entries
                        WHERE user_id = hold.user_id
                          AND operation_id = 'refund:' || hold.hold_id) AS refunded
          FROM json_to_recordset($1) AS wanted (user_id text, hold_id uuid)
         CROSS JOIN LATERAL (SELECT user_id, hold_id, credits
                               FROM holds
                              WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
                                AND state = 'committed'
                              LIMIT 1) AS hold
        """,
        as_rows(wanted),
    )
    return {
        (row["user_id"], row["hold_id"]): RefundableHold(row["hold_id"], row["credits"], row["refunded"])
        for row in rows
    }
