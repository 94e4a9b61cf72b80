"""Plans in the database."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item, latest_deadline
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, from_row, names
from chassis.rpc.paging import Page
from subscription_service.domain.plans import Plan

PLAN = "plan_id text, name text, daily_test_limit integer, monthly_credits integer, features text[]"
PLAN_COLUMNS = names(PLAN)


class PlanStore:
    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def put_plans(self, items: Sequence[Item[Plan]]) -> list[Plan]:
        """Create or replace these; of several for one plan, the last counts."""
        last = {item.request.plan_id: item.request for item in items}
        ordered = [last[plan_id] for plan_id in sorted(last)]

        async def work(connection: Connection) -> list[Plan]:
            await connection.execute(_PUT, as_rows(ordered))
            return [item.request for item in items]

        return await self._database.write(work, deadline=latest_deadline(items), name="put_plans")

    async def list_plans(self, item: Item[None], page: Page) -> list[Plan]:
        """Plans by id."""
        (after,) = page.after or ("",)

        async def work(connection: Connection) -> list[Plan]:
            rows = await connection.fetch(
                f"SELECT {PLAN_COLUMNS} FROM plans WHERE plan_id > $1 ORDER BY plan_id LIMIT $2",
                after,
                page.limit,
            )
            return [from_row(Plan, row, features=tuple(row["features"])) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_plans")


_PUT = f"""
    INSERT INTO plans ({PLAN_COLUMNS})
    SELECT {PLAN_COLUMNS}
      FROM json_to_recordset($1) AS plan ({PLAN})
        ON CONFLICT ON CONSTRAINT plans_once DO UPDATE
           SET name = excluded.name, daily_test_limit = excluded.daily_test_limit,
               monthly_credits = excluded.monthly_credits, features = excluded.features,
               updated_at = now()
"""
