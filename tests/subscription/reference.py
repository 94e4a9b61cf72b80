"""The promises of the service in the simplest form: each credit is an object, each counter counts holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from chassis.errors import Reason


class Refused(NamedTuple):
    reason: Reason
    metadata: Mapping[str, int | float | str]


class Taken(NamedTuple):
    """Another open hold has the subject."""

    hold_id: str


@dataclass
class Credit:
    """One credit: free, held by a hold, or gone (spent, taken back, lapsed)."""

    number: int
    expires: datetime | None
    holder: str | None = None
    gone: bool = False


@dataclass
class ReferenceHold:
    hold_id: str
    tests: int
    credits: int
    subject: str
    day: str
    state: str = "OPEN"


@dataclass
class ReferencePlan:
    plan_id: str
    limit: int | None
    monthly: int


@dataclass
class Learner:
    """One learner, and everything that was done to them."""

    plan_id: str
    status: str = "ACTIVE"
    period_end: datetime | None = None
    holds: dict[str, ReferenceHold] = field(default_factory=dict)
    credits: list[Credit] = field(default_factory=list)
    months: dict[str, int] = field(default_factory=dict)

    def status_at(self, now: datetime) -> str:
        return "EXPIRED" if self.period_end is not None and now >= self.period_end else self.status

    def plan_at(self, now: datetime, plans: dict[str, ReferencePlan], default: str) -> ReferencePlan:
        entitled = self.status_at(now) in {"TRIALING", "ACTIVE"}
        return plans[self.plan_id if entitled else default]

    def monthly_at(self, now: datetime, plans: dict[str, ReferencePlan], default: str) -> int:
        """The largest monthly amount of the plans that were in force at any time of the month."""
        amounts = [self.plan_at(now, plans, default).monthly]
        begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        if self.period_end is not None and self.period_end > begin and self.status in {"TRIALING", "ACTIVE"}:
            amounts.append(plans[self.plan_id].monthly)
        return max(amounts)

    def tests(self, day: str) -> tuple[int, int]:
        """Used and held of a day."""
        of_day = [hold for hold in self.holds.values() if hold.day == day]
        used = sum(hold.tests for hold in of_day if hold.state == "COMMITTED")
        return used, sum(hold.tests for hold in of_day if hold.state == "OPEN")

    def settle(self, now: datetime, monthly: int) -> None:
        for credit in self.credits:
            if credit.holder is None and credit.expires is not None and credit.expires <= now:
                credit.gone = True
        month = now.strftime("%Y-%m")
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end = (first + timedelta(days=32)).replace(day=1)
        self.add(monthly - self.months.get(month, 0), end)
        self.months[month] = max(monthly, self.months.get(month, 0))

    def add(self, amount: int, expires: datetime | None) -> None:
        self.credits += [Credit(len(self.credits) + n, expires) for n in range(amount)]

    @property
    def balance(self) -> int:
        return sum(not credit.gone for credit in self.credits)

    @property
    def held_credits(self) -> int:
        return sum(credit.holder is not None and not credit.gone for credit in self.credits)

    def take(self, amount: int) -> list[Credit]:
        """The free credits in the order of their use: the soonest to lapse comes first."""
        free = [credit for credit in self.credits if credit.holder is None and not credit.gone]
        never = datetime.max.replace(tzinfo=UTC)
        free.sort(key=lambda credit: (credit.expires or never, credit.number))
        return free[:amount]

    def place(
        self, hold: ReferenceHold, limit: int | None, monthly: int, now: datetime
    ) -> ReferenceHold | Refused | Taken:
        if hold.hold_id in self.holds:
            return self.holds[hold.hold_id]
        for other in self.holds.values():
            if other.state == "OPEN" and other.subject == hold.subject:
                return Taken(other.hold_id)
        used, held = self.tests(hold.day)
        if hold.tests and limit is not None and used + held + hold.tests > limit:
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            return Refused(
                Reason.DAILY_LIMIT_REACHED,
                {
                    "limit": limit,
                    "used": used,
                    "held": held,
                    "resetsAt": midnight.strftime("%Y-%m-%dT%H:%M:%SZ"),
                },
            )
        if hold.credits:
            self.settle(now, monthly)
            refusal = self.lacks(hold.credits)
            if refusal is not None:
                return refusal
            for credit in self.take(hold.credits):
                credit.holder = hold.hold_id
        self.holds[hold.hold_id] = hold
        return hold

    def lacks(self, needed: int) -> Refused | None:
        if needed <= self.balance - self.held_credits:
            return None
        figures: dict[str, int | float | str] = {
            "balance": self.balance,
            "held": self.held_credits,
            "needed": needed,
        }
        return Refused(Reason.INSUFFICIENT_CREDITS, figures)

    def resolve(self, hold_id: str, state: str, day: str, now: datetime) -> ReferenceHold | Refused:
        hold = self.holds.get(hold_id)
        if hold is None:
            if state == "COMMITTED":
                return Refused(Reason.NOT_FOUND, {})
            self.holds[hold_id] = ReferenceHold(hold_id, 0, 0, "", day, "RELEASED")
            return self.holds[hold_id]
        if hold.state == "OPEN":
            for credit in self.credits:
                if credit.holder == hold_id and not credit.gone:
                    lapsed = credit.expires is not None and credit.expires <= now
                    credit.gone = state == "COMMITTED" or lapsed
                    credit.holder = None
            hold.state = state
        if hold.state != state:
            return Refused(Reason.ILLEGAL_TRANSITION, {"from": hold.state, "to": state})
        return hold
