"""Holds: test units and credits that are reserved, then spent or given back, exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from chassis.errors import Reason, ServiceError
from chassis.frozen import quick
from subscription_service.domain.accounts import invalid_user_reference
from subscription_service.domain.credits import HeldCredits, Wallet
from subscription_service.domain.plans import Limits
from subscription_service.domain.quota import DayUsage


class HoldState(StrEnum):
    OPEN = "open"
    COMMITTED = "committed"
    RELEASED = "released"


_MOVES: Mapping[HoldState, frozenset[HoldState]] = {
    HoldState.OPEN: frozenset({HoldState.COMMITTED, HoldState.RELEASED}),
    HoldState.COMMITTED: frozenset(),
    HoldState.RELEASED: frozenset(),
}


@quick
@dataclass(frozen=True, slots=True)
class Placement:
    """What to hold. A learner has at most one open hold per subject."""

    user_id: str
    hold_id: UUID
    tests: int
    credits: int
    subject: str
    method: str
    idempotency_key: str


@quick
@dataclass(frozen=True, slots=True)
class Hold:
    """`day` is the UTC day on which it was placed: its test units count there, whenever it is resolved."""

    user_id: str
    hold_id: UUID
    state: HoldState
    tests: int
    credits: int
    subject: str
    method: str
    idempotency_key: str
    day: date
    placed_at: datetime
    resolved_at: datetime | None


@quick
@dataclass(frozen=True, slots=True)
class Placed:
    """The outcome of a placement: the hold as it is now.

    `hold` is None when nothing was placed because `rival`, another open hold of the learner, has the subject.
    """

    hold: Hold | None
    rival: Hold | None = None


@dataclass(frozen=True, slots=True)
class HoldReference:
    user_id: str
    hold_id: UUID


class HoldPosition(NamedTuple):
    """Where a hold is among the open holds, which are ordered by these three."""

    placed_at: datetime
    user_id: str
    hold_id: UUID


@dataclass(frozen=True, slots=True)
class OpenHoldsQuery:
    """The open holds that a method's requests placed at least so long ago, behind `placed_after` if given."""

    method: str
    older_than_seconds: float
    placed_after: HoldPosition | None


@dataclass(slots=True)
class LearnerHolds:
    """What the decisions about one learner's holds depend on, and the decisions before they are written.

    `holds` has the requested holds, `open_holds` the open hold of each requested subject, and `days` the
    counters of the days that these holds count against. `limits` is None when the account does not exist or
    is inactive; they reflect the subscription's change with the number `subscription_changes`.
    """

    user_id: str
    now: datetime
    today: date
    limits: Limits | None
    holds: dict[UUID, Hold] = field(default_factory=dict)
    open_holds: dict[str, Hold] = field(default_factory=dict)
    days: dict[date, DayUsage] = field(default_factory=dict)
    wallet: Wallet | None = None
    held_credits: dict[UUID, list[HeldCredits]] = field(default_factory=dict)
    placed: set[UUID] = field(default_factory=set)
    resolved: set[UUID] = field(default_factory=set)
    subscription_changes: int = 0

    def place(self, placement: Placement) -> Placed | ServiceError:
        """Take the units, all or nothing. A hold that exists is returned as it is."""
        existing = self.holds.get(placement.hold_id)
        if existing is not None:
            return Placed(existing)
        if self.limits is None:
            return invalid_user_reference()
        rival = self.open_holds.get(placement.subject)
        if rival is not None:
            return Placed(None, rival)
        usage = self._usage(self.today)
        refusal = usage.refusal(placement.tests, self.limits.daily_test_limit)
        if refusal is not None:
            return refusal
        if placement.credits:
            wallet = self._wallet()
            wallet.settle(self.limits.monthly_credits)
            taken = wallet.hold(placement.credits)
            if isinstance(taken, ServiceError):
                return taken
            self.held_credits[placement.hold_id] = taken
        usage.held += placement.tests
        self.placed.add(placement.hold_id)
        hold = Hold(
            placement.user_id,
            placement.hold_id,
            HoldState.OPEN,
            placement.tests,
            placement.credits,
            placement.subject,
            placement.method,
            placement.idempotency_key,
            self.today,
            self.now,
            None,
        )
        self.holds[placement.hold_id] = self.open_holds[placement.subject] = hold
        return Placed(hold)

    def commit(self, hold_id: UUID) -> Hold | ServiceError:
        """Spend the units, on the day on which they were held. A committed hold stays as it is."""
        hold = self.holds.get(hold_id)
        if hold is None:
            return ServiceError(Reason.NOT_FOUND, "There is no such hold")
        if hold.state is HoldState.COMMITTED:
            return hold
        refusal = check_move(hold.state, HoldState.COMMITTED)
        if refusal is not None:
            return refusal
        usage = self._usage(hold.day)
        usage.held -= hold.tests
        usage.used += hold.tests
        if hold.credits:
            self._wallet().spend(
                self.held_credits[hold_id], operation_id=f"hold:{hold_id}", reason=hold.subject
            )
        return self._resolve(hold, HoldState.COMMITTED)

    def release(self, hold_id: UUID) -> Hold | ServiceError:
        """Give the units back. A released hold stays as it is. An unknown hold becomes a tombstone."""
        hold = self.holds.get(hold_id)
        if hold is None:
            return self._bury(hold_id)
        if hold.state is HoldState.RELEASED:
            return hold
        refusal = check_move(hold.state, HoldState.RELEASED)
        if refusal is not None:
            return refusal
        self._usage(hold.day).held -= hold.tests
        if hold.credits:
            self._wallet().give_back(self.held_credits[hold_id], operation_id=f"hold:{hold_id}")
        return self._resolve(hold, HoldState.RELEASED)

    def _resolve(self, hold: Hold, state: HoldState) -> Hold:
        resolved = replace(hold, state=state, resolved_at=self.now)
        self.holds[hold.hold_id] = resolved
        self.resolved.add(hold.hold_id)
        self.open_holds.pop(hold.subject, None)
        return resolved

    def _bury(self, hold_id: UUID) -> Hold:
        tombstone = Hold(
            self.user_id, hold_id, HoldState.RELEASED, 0, 0, "", "", "", self.today, self.now, self.now
        )
        self.holds[hold_id] = tombstone
        self.placed.add(hold_id)
        return tombstone

    def _usage(self, day: date) -> DayUsage:
        usage = self.days.get(day)
        if usage is None:
            usage = self.days[day] = DayUsage(day)
        return usage

    def _wallet(self) -> Wallet:
        if self.wallet is None:
            raise AssertionError("a hold with credits was asked for, but the wallet was not read")
        return self.wallet


def check_move(old: HoldState, new: HoldState) -> ServiceError | None:
    """Why a hold may not go from one state to another, or None when it may."""
    if new in _MOVES[old]:
        return None
    return ServiceError(
        Reason.ILLEGAL_TRANSITION,
        f"The hold is {old.name} already",
        metadata={"from": old.name, "to": new.name},
    )
