"""Holds: test units and credits that are reserved, then spent or given back, once and for good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from chassis.errors import Reason, ServiceError
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


@dataclass(slots=True)
class LearnerHolds:
    """What must be known of one learner to decide about holds, and what was decided, before it is written.

    `holds` are those asked about, `open_subjects` the subjects asked about that have an open hold, `days` the
    days that they count against; `limits` is None unless the account may take anything, and stands as of the
    subscription's change with the number `subscription_changes`.
    """

    user_id: str
    now: datetime
    today: date
    limits: Limits | None
    holds: dict[UUID, Hold] = field(default_factory=dict)
    open_subjects: set[str] = field(default_factory=set)
    days: dict[date, DayUsage] = field(default_factory=dict)
    wallet: Wallet | None = None
    held_credits: dict[UUID, list[HeldCredits]] = field(default_factory=dict)
    placed: set[UUID] = field(default_factory=set)
    resolved: set[UUID] = field(default_factory=set)
    subscription_changes: int = 0

    def place(self, placement: Placement) -> Hold | ServiceError | None:
        """Take the units, all or nothing; None while another open hold has the subject.

        A hold that exists is returned as it is.
        """
        existing = self.holds.get(placement.hold_id)
        if existing is not None:
            return existing
        if self.limits is None:
            return invalid_user_reference()
        if placement.subject in self.open_subjects:
            return None
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
        self.open_subjects.add(placement.subject)
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
        self.holds[placement.hold_id] = hold
        return hold

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
        """Give the units back. A released hold stays as it is; an unknown one becomes a tombstone."""
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
        self.open_subjects.discard(hold.subject)
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
