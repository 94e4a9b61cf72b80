"""Everything that a learner is entitled to, in one statement of index probes."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from chassis.postgres import Connection, Database
from chassis.postgres.rows import from_row
from subscription_service.domain.entitlements import Standing, StoredCredits
from subscription_service.domain.plans import Plan
from subscription_service.domain.quota import DayUsage
from subscription_service.domain.subscriptions import SubscriptionStatus
from subscription_service.store.clock import PinnedTime, database_time


class EntitlementStore:
    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def read_standings(self, user_ids: Collection[str], *, deadline: float) -> dict[str, Standing]:
        """The stored state of each active account; unknown and inactive accounts are absent."""

        async def work(connection: Connection) -> dict[str, Standing]:
            rows = await connection.fetch(_READ_STANDINGS, list(user_ids), self._pinned_time())
            return {row["user_id"]: _standing(row) for row in rows}

        return await self._database.read(work, deadline=deadline, name="read_standings")


_READ_STANDINGS = """
    SELECT account.user_id, account.email_verified, clock.now, (clock.now AT TIME ZONE 'utc')::date AS today,
           subscription.status, subscription.period_end, subscription.plan_id, subscription.name,
           subscription.daily_test_limit, subscription.monthly_credits, subscription.features,
           fallback.plan_id AS default_plan_id, fallback.name AS default_name,
           fallback.daily_test_limit AS default_daily_test_limit,
           fallback.monthly_credits AS default_monthly_credits, fallback.features AS default_features,
           coalesce(usage.held, 0) AS usage_held, coalesce(usage.used, 0) AS usage_used,
           coalesce(wallet.balance, 0) AS balance, coalesce(wallet.held, 0) AS credits_held,
           coalesce(expired.lapsed, 0) AS lapsed,
           wallet.month, coalesce(wallet.month_granted, 0) AS month_granted
      FROM unnest($1::text[]) AS wanted (user_id)
     CROSS JOIN (SELECT coalesce($2::timestamptz, statement_timestamp()) AS now) AS clock
     CROSS JOIN (SELECT plan_id, name, daily_test_limit, monthly_credits, features
                   FROM plans
                  WHERE is_default
                  LIMIT 1) AS fallback
     CROSS JOIN LATERAL (SELECT user_id, email_verified
                           FROM accounts
                          WHERE user_id = wanted.user_id AND status = 'active'
                          LIMIT 1) AS account
     CROSS JOIN LATERAL (SELECT subscribed.status, subscribed.period_end, plan.plan_id, plan.name,
                                plan.daily_test_limit, plan.monthly_credits, plan.features
                           FROM subscriptions AS subscribed
                           JOIN plans AS plan ON plan.plan_id = subscribed.plan_id
                          WHERE subscribed.user_id = wanted.user_id
                          LIMIT 1) AS subscription
      LEFT JOIN LATERAL (SELECT held, used
                           FROM daily_usage
                          WHERE user_id = wanted.user_id AND day = (clock.now AT TIME ZONE 'utc')::date
                          LIMIT 1) AS usage ON true
      LEFT JOIN LATERAL (SELECT balance, held, month, month_granted
                           FROM credit_balances
                          WHERE user_id = wanted.user_id
                          LIMIT 1) AS wallet ON true
      LEFT JOIN LATERAL (SELECT sum(remaining) AS lapsed
                           FROM credit_grants
                          WHERE user_id = wanted.user_id AND remaining > 0
                            AND expires_at <= clock.now) AS expired ON true
"""


def _standing(row: asyncpg.Record) -> Standing:
    return Standing(
        user_id=row["user_id"],
        email_verified=row["email_verified"],
        now=row["now"],
        status=SubscriptionStatus(row["status"]),
        period_end=row["period_end"],
        plan=from_row(Plan, row, features=tuple(row["features"])),
        default_plan=from_row(Plan, row, prefix="default_", features=tuple(row["default_features"])),
        usage=DayUsage(row["today"], row["usage_held"], row["usage_used"]),
        credits=from_row(StoredCredits, row, held=row["credits_held"]),
    )
