"""Entitlements: what a learner may do now, derived from the stored rows and the time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Self

from subscription_service.domain.credits import grantable
from subscription_service.domain.plans import Limits, Plan
from subscription_service.domain.quota import DayUsage
from subscription_service.domain.subscriptions import (
    SubscriptionStatus,
    in_force,
    limits_at,
    status_at,
)
from subscription_service.domain.utc_calendar import end_of_day, month_of

_NO_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredCredits:
    """A learner's credits as they are stored; `lapsed` of them have expired and are still in the ledger."""

    balance: int
    held: int
    lapsed: int
    month: date | None
    month_granted: int


@dataclass(frozen=True, slots=True)
class Standing:
    """The stored state of a learner at one moment; `plan` is the plan of their subscription."""

    user_id: str
    email_verified: bool
    now: datetime
    status: SubscriptionStatus
    period_end: datetime | None
    plan: Plan
    default_plan: Plan
    usage: DayUsage
    credits: StoredCredits

    @property
    def plan_in_force(self) -> Plan:
        return in_force(self.status, self.period_end, self.now, plan=self.plan, default=self.default_plan)

    @property
    def monthly_credits_due(self) -> int:
        """The plan's credits of this month that the next use will enter into the ledger."""
        limits = limits_at(
            self.status,
            self.period_end,
            self.now,
            plan=Limits(self.plan.daily_test_limit, self.plan.monthly_credits),
            default=Limits(self.default_plan.daily_test_limit, self.default_plan.monthly_credits),
        )
        month = self.credits.month
        granted = self.credits.month_granted if month is not None and month >= month_of(self.now) else 0
        return grantable(limits.monthly_credits - granted, self.credits.balance - self.credits.lapsed)

    @property
    def credits_due(self) -> bool:
        """Whether the time has made an entry necessary that the ledger does not have yet."""
        return self.credits.lapsed > 0 or self.monthly_credits_due > 0


@dataclass(frozen=True, slots=True)
class Entitlements:
    """`limit` and `remaining` are None without a limit; `available` = `balance` - `held_credits`."""

    user_id: str
    plan_id: str
    status: SubscriptionStatus
    limit: int | None
    used: int
    held: int
    remaining: int | None
    resets_at: datetime
    balance: int
    held_credits: int
    features: tuple[str, ...]
    email_verified: bool

    @property
    def available(self) -> int:
        return self.balance - self.held_credits


def entitlements_of(standing: Standing) -> Entitlements:
    """What holds now.

    The balance is the one that the next use finds: without lapsed credits, and with this month's credits of
    the plan. Both enter the ledger only when somebody uses it.
    """
    plan = standing.plan_in_force
    stored = standing.credits
    return Entitlements(
        user_id=standing.user_id,
        plan_id=plan.plan_id,
        status=status_at(standing.status, standing.period_end, standing.now),
        limit=plan.daily_test_limit,
        used=standing.usage.used,
        held=standing.usage.held,
        remaining=standing.usage.remaining(plan.daily_test_limit),
        resets_at=end_of_day(standing.usage.day),
        balance=stored.balance - stored.lapsed + standing.monthly_credits_due,
        held_credits=stored.held,
        features=plan.features,
        email_verified=standing.email_verified,
    )


@dataclass(frozen=True, slots=True)
class EntitlementChange:
    """What a learner is entitled to, in short. A learner without an active account has no status."""

    fingerprint: bytes
    plan_id: str
    status: SubscriptionStatus | None

    @classmethod
    def of(cls, entitlements: Entitlements) -> Self:
        """The fingerprint is another one as soon as a learner is entitled to something else.

        When the day ends does not count: that is another time each day, for everybody at once.
        """
        shown = repr(replace(entitlements, resets_at=_NO_TIME))
        return cls(blake2b(shown.encode(), digest_size=8).digest(), entitlements.plan_id, entitlements.status)


NOTHING = EntitlementChange(b"", "", None)
