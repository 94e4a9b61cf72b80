"""Subscriptions in the database, and the history of their changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from chassis.errors import ServiceError
from chassis.postgres.isolation import Locked
from chassis.postgres import Connection, Database
from subscription_service.domain.accounts import AccountStatus, invalid_user_reference
from subscription_service.domain.subscriptions import (
    Subscription,
    SubscriptionChange,
    SubscriptionOrder,
    SubscriptionRecord,
    SubscriptionStatus,
)
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.keyed import Keyed, KeyedOutcome, write_keyed
from subscription_service.store.locks import lock_learners
from subscription_service.store.wallets import read_settled_wallets, write_wallets


class SubscriptionStore:
    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def set_subscriptions(
        self,
        orders: Sequence[Keyed[SubscriptionOrder]],
        *,
        render: Callable[[Subscription], bytes],
        wait: bool,
        deadline: float,
    ) -> list[KeyedOutcome]:
        """Carry out these orders in their sequence, each once per key."""

        async def change(
            connection: Connection, orders: Sequence[SubscriptionOrder]
        ) -> list[Subscription | ServiceError | Locked]:
            learners = await lock_learners(connection, [order.user_id for order in orders], wait=wait)
            # What is due under the old plan is entered before it is left.
            wallets = await read_settled_wallets(connection, learners.statuses, pinned=self._pinned_time())
            await write_wallets(connection, wallets.values())
            records = await self._read(connection, learners.statuses)
            plans = await connection.fetch(
                "SELECT plan_id FROM plans WHERE plan_id = ANY ($1::text[])",
                list({order.plan_id for order in orders}),
            )
            known_plans = frozenset(row["plan_id"] for row in plans)
            outcomes: list[Subscription | ServiceError | Locked] = []
            for order in orders:
                if order.user_id not in learners.statuses:
                    outcomes.append(learners.refusal(order.user_id))
                elif learners.statuses[order.user_id] is not AccountStatus.ACTIVE:
                    outcomes.append(invalid_user_reference())
                else:
                    outcomes.append(records[order.user_id].order(order, known_plans))
            await write_subscriptions(connection, records.values())
            return outcomes

        return await write_keyed(
            self._database, orders, change, render=render, deadline=deadline, name="set_subscriptions"
        )

    async def list_changes(
        self, *, user_id: str, before: int | None, limit: int, deadline: float
    ) -> list[SubscriptionChange]:
        """The history of a subscription, newest first, before the change with that number."""

        async def work(connection: Connection) -> list[SubscriptionChange]:
            rows = await connection.fetch(
                """
                SELECT user_id, change_number, from_plan_id, to_plan_id, from_status, to_status,
                       period_end, changed_by, changed_at
                  FROM subscription_changes
                 WHERE user_id = $1 AND ($2::integer IS NULL OR change_number < $2)
                 ORDER BY change_number DESC
                 LIMIT $3
                """,
                user_id,
                before,
                limit,
            )
            return [
                SubscriptionChange(
                    user_id=row["user_id"],
                    change_number=row["change_number"],
                    from_plan_id=row["from_plan_id"],
                    to_plan_id=row["to_plan_id"],
                    from_status=row["from_status"] and SubscriptionStatus(row["from_status"]),
                    to_status=SubscriptionStatus(row["to_status"]),
                    period_end=row["period_end"],
                    by=row["changed_by"],
                    at=row["changed_at"],
                )
                for row in rows
            ]

        return await self._database.read(work, deadline=deadline, name="list_subscription_changes")

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
    """Write what was decided about subscriptions whose accounts are locked (or are created just now)."""
    changed = [record for record in records if record.new_changes]
    if not changed:
        return
    changes = [change for record in changed for change in record.new_changes]
    await connection.execute(
        """
        WITH history AS (
            INSERT INTO subscription_changes (user_id, change_number, from_plan_id, to_plan_id, from_status,
                                              to_status, period_end, changed_by, changed_at)
            SELECT user_id, change_number, from_plan_id, to_plan_id, from_status,
                   to_status, period_end, changed_by, changed_at
              FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[],
                          $6::text[], $7::timestamptz[], $8::text[], $9::timestamptz[])
                   AS change (user_id, change_number, from_plan_id, to_plan_id, from_status,
                              to_status, period_end, changed_by, changed_at)
        )
        INSERT INTO subscriptions (user_id, plan_id, status, period_end, changes, updated_at)
        SELECT user_id, plan_id, status, period_end, changes, updated_at
          FROM unnest($10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::integer[],
                      $15::timestamptz[])
               AS subscribed (user_id, plan_id, status, period_end, changes, updated_at)
            ON CONFLICT ON CONSTRAINT subscriptions_one_per_account DO UPDATE
               SET plan_id = excluded.plan_id, status = excluded.status, period_end = excluded.period_end,
                   changes = excluded.changes, updated_at = excluded.updated_at
        """,
        [change.user_id for change in changes],
        [change.change_number for change in changes],
        [change.from_plan_id for change in changes],
        [change.to_plan_id for change in changes],
        [change.from_status for change in changes],
        [change.to_status for change in changes],
        [change.period_end for change in changes],
        [change.by for change in changes],
        [change.at for change in changes],
        [record.user_id for record in changed],
        [record.plan_id for record in changed],
        [record.stored_status for record in changed],
        [record.period_end for record in changed],
        [record.changes for record in changed],
        [record.updated_at for record in changed],
    )
