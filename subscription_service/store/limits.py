"""The limits that hold for learners now: those of their plan, or of the default plan."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import asyncpg

from chassis.postgres import Connection
from subscription_service.domain.plans import Limits
from subscription_service.domain.subscriptions import SubscriptionStatus, limits_at

# Looked up in every placement: an enum's own look-up takes ten times as long.
_STATUSES = {status.value: status for status in SubscriptionStatus}


class LimitsAt(NamedTuple):
    now: datetime
    limits: Limits


async def read_limits(
    connection: Connection, user_ids: Collection[str], *, pinned: datetime | None
) -> dict[str, LimitsAt]:
    """The limits of each of these learners, and the moment at which they hold."""
    rows = await connection.fetch(
        """
        SELECT wanted.user_id, clock.now, subscription.status, subscription.period_end,
               subscription.daily_test_limit, subscription.monthly_credits,
               fallback.daily_test_limit AS default_daily_test_limit,
               fallback.monthly_credits AS default_monthly_credits
          FROM unnest($1::text[]) AS wanted (user_id)
         CROSS JOIN (SELECT coalesce($2::timestamptz, statement_timestamp()) AS now) AS clock
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
        """,
        list(user_ids),
        pinned,
    )
    return {row["user_id"]: LimitsAt(row["now"], limits_from(row)) for row in rows}


def limits_from(row: asyncpg.Record) -> Limits:
    """The limits that a row shows: a subscription (its status is NULL without one), its plan, the default."""
    default = Limits(row["default_daily_test_limit"], row["default_monthly_credits"])
    if row["status"] is None:
        return default
    return limits_at(
        _STATUSES[row["status"]],
        row["period_end"],
        row["now"],
        plan=Limits(row["daily_test_limit"], row["monthly_credits"]),
        default=default,
    )
