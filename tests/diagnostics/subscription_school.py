"""A school of subscription_service: learners made by its own operations, and an operator."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

from chassis.postgres import Connection, Database
from subscription_service.operations.diagnosis import REPAIRS, checks, special_rows
from tests.diagnostics.operators import Operator
from tests.subscription.service import Subscriptions


class School(Operator):
    """The checks have no age, so that a planted fault is found at once."""

    def __init__(self, database: Database, truth: Connection) -> None:
        super().__init__(
            database,
            checks=[replace(check, age=timedelta(0)) for check in checks(database)],
            repairs=REPAIRS,
            others=special_rows(),
        )
        self.subscriptions = Subscriptions(database, truth)
        self.truth = truth

    async def learner(self) -> str:
        """A learner with two tests of today, credits from two grants, a changed plan and a license."""
        user_id = await self.subscriptions.account(f"learner-{uuid.uuid4()}")
        await self.subscriptions.plan("monthly", limit=5, monthly=4)
        await self.subscriptions.subscribe(user_id, "monthly")
        await self.subscriptions.adjust(user_id, 10)
        await self.subscriptions.commit(await self.subscriptions.place(user_id, credits=2))
        await self.subscriptions.release(await self.subscriptions.place(user_id, credits=1))
        await self.subscriptions.place(user_id, credits=3)
        await self.subscriptions.adjust(user_id, -1)
        await self.subscriptions.apply_level(user_id, "physics", 2)
        await self.subscriptions.apply_level(user_id, "physics", 3)
        return user_id

    async def rows(self, user_id: str) -> dict[str, list[str]]:
        """Everything that the store keeps of a learner, but the moments of repairs."""
        tables = await self.truth.fetch(
            """
            SELECT table_name FROM information_schema.columns
             WHERE table_schema = 'public' AND column_name = 'user_id' AND table_name NOT LIKE 'repair%'
               AND table_name <> 'idempotency_keys'
             ORDER BY table_name
            """
        )
        return {
            table: [
                row["row"]
                for row in await self.truth.fetch(
                    f"SELECT to_jsonb(kept)::text AS row FROM {table} AS kept WHERE user_id = $1 ORDER BY 1",  # noqa: S608 - a name of the catalogue
                    user_id,
                )
            ]
            for (table,) in tables
        }
