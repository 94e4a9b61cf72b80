"""Plans in the database."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from chassis.postgres import Connection, Database
from subscription_service.domain.plans import Plan


class PlanStore:
    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def put_plans(self, plans: Sequence[Plan], *, deadline: float) -> None:
        """Create or replace these; of several for one plan, the last counts."""
        last = {plan.plan_id: plan for plan in plans}
        ordered = [last[plan_id] for plan_id in sorted(last)]
        features = [(plan.plan_id, feature) for plan in ordered for feature in plan.features]
        await self._database.execute_write(
            """
            WITH feature AS (
                SELECT plan_id, array_agg(name ORDER BY place) AS names
                  FROM unnest($5::text[], $6::text[]) WITH ORDINALITY AS listed (plan_id, name, place)
                 GROUP BY plan_id
            )
            INSERT INTO plans (plan_id, name, daily_test_limit, monthly_credits, features)
            SELECT plan.plan_id, plan.name, plan.daily_test_limit, plan.monthly_credits,
                   coalesce(feature.names, '{}')
              FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[]) WITH ORDINALITY
                   AS plan (plan_id, name, daily_test_limit, monthly_credits, place)
              LEFT JOIN feature ON feature.plan_id = plan.plan_id
             ORDER BY plan.place
                ON CONFLICT ON CONSTRAINT plans_once DO UPDATE
                   SET name = excluded.name, daily_test_limit = excluded.daily_test_limit,
                       monthly_credits = excluded.monthly_credits, features = excluded.features,
                       updated_at = now()
            """,
            [plan.plan_id for plan in ordered],
            [plan.name for plan in ordered],
            [plan.daily_test_limit for plan in ordered],
            [plan.monthly_credits for plan in ordered],
            [plan_id for plan_id, _ in features],
            [feature for _, feature in features],
            deadline=deadline,
            name="put_plans",
        )

    async def list_plans(self, *, after: str, limit: int, deadline: float) -> list[Plan]:
        """Plans by id, those after the one named."""

        async def work(connection: Connection) -> list[Plan]:
            rows = await connection.fetch(
                """
                SELECT plan_id, name, daily_test_limit, monthly_credits, features
                  FROM plans
                 WHERE plan_id > $1
                 ORDER BY plan_id
                 LIMIT $2
                """,
                after,
                limit,
            )
            return [_plan(row) for row in rows]

        return await self._database.read(work, deadline=deadline, name="list_plans")


def _plan(row: asyncpg.Record) -> Plan:
    return Plan(
        plan_id=row["plan_id"],
        name=row["name"],
        daily_test_limit=row["daily_test_limit"],
        monthly_credits=row["monthly_credits"],
        features=tuple(row["features"]),
    )
