"""Subscriptions in the database, and the history of their changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import asyncpg

from chassis.batch import Item, Outcome
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render, write_keyed
from chassis.postgres.rows import as_rows, from_row, names
from chassis.rpc.paging import Page
from subscription_service.domain.subscriptions import (
    Subscription,
    SubscriptionChange,
    SubscriptionOrder,
    SubscriptionRecord,
    SubscriptionStatus,
)
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.locks import LockedLearners, lock_learners
from subscription_service.store.wallets import read_settled_wallets, write_wallets

SUBSCRIPTION = """user_id text, plan_id text, status text, period_end timestamptz, changes integer,
                  updated_at timestamptz"""
CHANGE = """user_id text, change_number integer, from_plan_id text, to_plan_id text, from_status text,
            to_status text, period_end timestamptz, changed_by text, changed_at timestamptz"""
CHANGE_COLUMNS = names(CHANGE)


class SubscriptionStore:
    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def set_subscriptions(
        self, items: Sequence[Item[SubscriptionOrder]], wait: bool, *, render: Render[Subscription]
    ) -> list[Outcome | Locked]:
        """Carry out these orders in their sequence, each once per key."""

        async def lock(connection: Connection, items: Sequence[Item[SubscriptionOrder]]) -> LockedLearners:
            return await lock_learners(connection, [item.request.user_id for item in items], wait=wait)

        async def change(
            connection: Connection, learners: LockedLearners, items: Sequence[Item[SubscriptionOrder]]
        ) -> list[Subscription | ServiceError | Locked]:
            # The credits that are due under the old plan are entered before the plan changes.
            wallets = await read_settled_wallets(connection, learners.statuses, pinned=self._pinned_time())
            await write_wallets(connection, wallets.values())
            records = await self._read(connection, learners.statuses)
            plans = await connection.fetch(
                "SELECT plan_id FROM plans WHERE plan_id = ANY ($1::text[])",
                list({item.request.plan_id for item in items}),
            )
            known_plans = frozenset(row["plan_id"] for row in plans)
            outcomes = [
                learners.refusal_unless_active(order.user_id)
                or records[order.user_id].order(order, known_plans)
                for order in (item.request for item in items)
            ]
            await write_subscriptions(connection, records.values())
            return outcomes

        return await write_keyed(
            self._database, items, lock=lock, change=change, render=render, name="set_subscriptions"
        )

    async def list_changes(self, item: Item[str], page: Page) -> list[SubscriptionChange]:
        """The history of a learner's subscription, newest first."""
        (before,) = page.after or (None,)

        async def work(connection: Connection) -> list[SubscriptionChange]:
            rows = await connection.fetch(
                f"""
                SELECT {CHANGE_COLUMNS}
                  FROM subscription_changes
                 WHERE user_id = $1 AND ($2::integer IS NULL OR change_number < $2)
                 ORDER BY change_number DESC
                 LIMIT $3
                """,
                item.request,
                before,
                page.limit,
            )
            return [_change(row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_subscription_changes")

    async def _read(self, connection: Connection, user_ids: Collection[str]) -> dict[str, SubscriptionRecord]:
        rows = await connection.fetch(
            """
            SELECT wanted.user_id, coalesce($2::timestamptz, statement_timestamp()) AS now,
                   subscribed.plan_id, subscribed.status, subscribed.period_end,
                   subscribed.changes, subscribed.updated_at
              FROM unnest($1::text[]) AS wanted (user_id)
              LEFT JOIN LATERAL (SELECT plan_id, status, period_end, changes, updated_at
                                   FROM subscriptions
                                  WHERE user_id = wanted.user_id
                                  LIMIT 1) AS subscribed ON true
            """,
            list(user_ids),
            self._pinned_time(),
        )
        records: dict[str, SubscriptionRecord] = {}
        for row in rows:
            record = records[row["user_id"]] = SubscriptionRecord(row["user_id"], row["now"])
            if row["plan_id"] is not None:
                record.plan_id = row["plan_id"]
                record.stored_status = SubscriptionStatus(row["status"])
                record.period_end = row["period_end"]
                record.changes = row["changes"]
                record.updated_at = row["updated_at"]
        return records


async def write_subscriptions(connection: Connection, records: Iterable[SubscriptionRecord]) -> None:
    """Write the decisions about subscriptions whose accounts are locked, or new in this transaction."""
    changed = [record for record in records if record.new_changes]
    if not changed:
        return
    changes = [change for record in changed for change in record.new_changes]
    subscriptions = [
        {
            "user_id": record.user_id,
            "plan_id": record.plan_id,
            "status": record.stored_status,
            "period_end": record.period_end,
            "changes": record.changes,
            "updated_at": record.updated_at,
        }
        for record in changed
    ]
    await connection.execute(_WRITE, as_rows(changes), as_rows(subscriptions))


_WRITE = f"""
    WITH history AS (
        INSERT INTO subscription_changes ({CHANGE_COLUMNS})
        SELECT {CHANGE_COLUMNS}
          FROM json_to_recordset($1) AS change ({CHANGE})
    )
    INSERT INTO subscriptions ({names(SUBSCRIPTION)})
    SELECT {names(SUBSCRIPTION)}
      FROM json_to_recordset($2) AS subscribed ({SUBSCRIPTION})
        ON CONFLICT ON CONSTRAINT subscriptions_one_per_account DO UPDATE
           SET plan_id = excluded.plan_id, status = excluded.status, period_end = excluded.period_end,
               changes = excluded.changes, updated_at = excluded.updated_at
"""


def _change(row: asyncpg.Record) -> SubscriptionChange:
    from_status = row["from_status"]
    return from_row(
        SubscriptionChange,
        row,
        from_status=None if from_status is None else SubscriptionStatus(from_status),
        to_status=SubscriptionStatus(row["to_status"]),
    )
