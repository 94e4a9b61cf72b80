"""Subscriptions: which status may follow which, and which of them entitle to the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from chassis.errors import Reason, ServiceError, invalid_field
from subscription_service.domain.plans import Limits
from subscription_service.domain.utc_calendar import month_of, start_of_month

T = TypeVar("T")


class SubscriptionStatus(StrEnum):
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    CANCELED = "canceled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of a status: whether it gives the plan's limits, and which statuses may follow it.

    A status that is among its own successors can be renewed, or moved to another plan or period.
    """

    entitles: bool
    successors: frozenset[SubscriptionStatus]


_S = SubscriptionStatus
_RULES: Mapping[SubscriptionStatus, _Rules] = {
    _S.TRIALING: _Rules(True, frozenset({_S.TRIALING, _S.ACTIVE, _S.PAST_DUE, _S.CANCELED, _S.EXPIRED})),
    # From ACTIVE to TRIALING: a learner on the default plan tries another one.
    _S.ACTIVE: _Rules(True, frozenset({_S.TRIALING, _S.ACTIVE, _S.PAST_DUE, _S.CANCELED, _S.EXPIRED})),
    _S.PAST_DUE: _Rules(False, frozenset({_S.ACTIVE, _S.PAST_DUE, _S.CANCELED, _S.EXPIRED})),
    _S.CANCELED: _Rules(False, frozenset({_S.ACTIVE, _S.CANCELED, _S.EXPIRED})),
    _S.EXPIRED: _Rules(False, frozenset({_S.TRIALING, _S.ACTIVE})),
}


def entitles(status: SubscriptionStatus) -> bool:
    """Whether the subscription gives the limits of its plan. Otherwise the default plan's limits hold."""
    return _RULES[status].entitles


def may_follow(new: SubscriptionStatus, old: SubscriptionStatus) -> bool:
    return new in _RULES[old].successors


def check_move(old: SubscriptionStatus, new: SubscriptionStatus) -> ServiceError | None:
    """Why a subscription may not go from one status to another, or None when it may."""
    if may_follow(new, old):
        return None
    return ServiceError(
        Reason.ILLEGAL_TRANSITION,
        f"A subscription cannot go from {old.name} to {new.name}",
        metadata={"from": old.name, "to": new.name},
    )


def status_at(stored: SubscriptionStatus, period_end: datetime | None, now: datetime) -> SubscriptionStatus:
    """The effective status: EXPIRED after the end of the period, although the stored status is another."""
    if period_end is not None and period_end <= now:
        return SubscriptionStatus.EXPIRED
    return stored


def in_force(
    stored: SubscriptionStatus, period_end: datetime | None, now: datetime, *, plan: T, default: T
) -> T:
    """What the subscription's plan gives if it entitles now, else what the default plan gives."""
    return plan if entitles(status_at(stored, period_end, now)) else default


def limits_at(
    stored: SubscriptionStatus, period_end: datetime | None, now: datetime, *, plan: Limits, default: Limits
) -> Limits:
    """What a learner may take now.

    A learner who was on a plan at any time of a month gets the plan's credits of that month. So they are due
    also when the subscription has ended in this month and nobody has used the ledger before its end.
    """
    limits = in_force(stored, period_end, now, plan=plan, default=default)
    ended_this_month = (
        entitles(stored) and period_end is not None and start_of_month(month_of(now)) < period_end <= now
    )
    if ended_this_month and plan.monthly_credits > default.monthly_credits:
        return Limits(limits.daily_test_limit, plan.monthly_credits)
    return limits


@dataclass(frozen=True, slots=True)
class Subscription:
    user_id: str
    plan_id: str
    status: SubscriptionStatus
    period_end: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SubscriptionOrder:
    """What a subscription should become, and the user who orders it."""

    user_id: str
    plan_id: str
    status: SubscriptionStatus
    period_end: datetime | None
    by: str


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """One line of a subscription's history, numbered per learner; the first has no `from`."""

    user_id: str
    change_number: int
    from_plan_id: str | None
    to_plan_id: str
    from_status: SubscriptionStatus | None
    to_status: SubscriptionStatus
    period_end: datetime | None
    changed_by: str
    changed_at: datetime


BY_THE_CLOCK = "clock"


@dataclass(slots=True)
class SubscriptionRecord:
    """A learner's subscription as it was read, and the decisions about it.

    `stored_status` is the status that was set last; `changes` counts the lines of the history.
    """

    user_id: str
    now: datetime
    plan_id: str | None = None
    stored_status: SubscriptionStatus = SubscriptionStatus.ACTIVE
    period_end: datetime | None = None
    changes: int = 0
    updated_at: datetime | None = None
    new_changes: list[SubscriptionChange] = field(default_factory=list)

    def order(self, order: SubscriptionOrder, known_plans: frozenset[str]) -> Subscription | ServiceError:
        """Move the subscription, or refuse. An order that changes nothing leaves no line in the history."""
        if order.plan_id not in known_plans:
            return invalid_field("planId", "there is no such plan")
        wanted = (order.plan_id, order.status, order.period_end)
        if self.plan_id is None:
            self._record(order, None)
        elif wanted != (self.plan_id, self.stored_status, self.period_end):
            status = status_at(self.stored_status, self.period_end, self.now)
            refusal = check_move(status, order.status)
            if refusal is not None:
                return refusal
            if status is SubscriptionStatus.EXPIRED:
                self._record_expiry(self.plan_id, self.period_end or self.now)
            self._record(order, status)
        return Subscription(
            user_id=self.user_id,
            plan_id=order.plan_id,
            status=status_at(self.stored_status, self.period_end, self.now),
            period_end=self.period_end,
            updated_at=self.updated_at or self.now,
        )

    def _record(self, order: SubscriptionOrder, old: SubscriptionStatus | None) -> None:
        self.changes += 1
        self.new_changes.append(
            SubscriptionChange(
                user_id=self.user_id,
                change_number=self.changes,
                from_plan_id=self.plan_id,
                to_plan_id=order.plan_id,
                from_status=old,
                to_status=order.status,
                period_end=order.period_end,
                changed_by=order.by,
                changed_at=self.now,
            )
        )
        self.plan_id, self.stored_status, self.period_end = order.plan_id, order.status, order.period_end
        self.updated_at = self.now

    def _record_expiry(self, plan_id: str, period_end: datetime) -> None:
        """Add a line for the expiry, with a time that is not before the line above it."""
        self.changes += 1
        self.new_changes.append(
            SubscriptionChange(
                user_id=self.user_id,
                change_number=self.changes,
                from_plan_id=plan_id,
                to_plan_id=plan_id,
                from_status=self.stored_status,
                to_status=SubscriptionStatus.EXPIRED,
                period_end=period_end,
                changed_by=BY_THE_CLOCK,
                changed_at=max(period_end, self.updated_at or period_end),
            )
        )
