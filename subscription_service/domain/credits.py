"""Credits: a ledger whose sum is the balance, and grants that are spent in the order of their expiry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from chassis.errors import Reason, ServiceError, invalid_field
from subscription_service.domain.utc_calendar import end_of_month, month_of

BALANCE_MAX = 2_000_000_000
"""A balance is an int32 in the contract and an integer in the database."""


class EntryKind(StrEnum):
    GRANT = "grant"
    HOLD_COMMITTED = "hold_committed"
    REFUND = "refund"
    EXPIRY = "expiry"
    ADJUSTMENT = "adjustment"


@dataclass(frozen=True, slots=True)
class CreditEntry:
    """One line of the ledger, numbered per learner; a positive amount came in, a negative one went out."""

    user_id: str
    entry_number: int
    operation_id: str
    kind: EntryKind
    amount: int
    reason: str
    created_at: datetime
    expires_at: datetime | None
    balance_after: int


@dataclass(frozen=True, slots=True)
class CreditOrder:
    """Credits to bring in (positive) or to take back (negative); as a refund, of what a hold has spent."""

    user_id: str
    amount: int
    reason: str
    expires_at: datetime | None
    operation_id: str
    refund_of: UUID | None


class RefundableHold(NamedTuple):
    """A committed hold, the credits that it has spent, and whether the ledger has its refund."""

    hold_id: UUID
    credits: int
    refunded: bool


@dataclass(slots=True)
class Grant:
    """The part of an incoming entry that is neither spent nor held."""

    entry_number: int
    remaining: int
    expires_at: datetime | None


class HeldCredits(NamedTuple):
    """Credits that a hold took from one grant."""

    entry_number: int
    amount: int


@dataclass(slots=True)
class Wallet:
    """A learner's credits as they were read, and the decisions about them before they are written.

    At every moment balance = sum of the ledger = held + what remains of the grants. The plan has granted
    `month_granted` credits for the UTC month that begins on the day `month`. Of the grants that the requested
    holds have taken from, those in `expired` have lapsed already, also if the clock has stepped back since.
    """

    user_id: str
    now: datetime
    balance: int
    held: int
    entries: int
    month: date
    month_granted: int
    grants: dict[int, Grant]
    expired: set[int] = field(default_factory=set)
    new_entries: list[CreditEntry] = field(default_factory=list)
    touched: bool = False
    touched_grants: set[int] = field(default_factory=set)

    @property
    def available(self) -> int:
        return self.balance - self.held

    def settle(self, monthly_credits: int) -> None:
        """Bring the ledger up to now: lapsed credits leave it, this month's credits of the plan enter it.

        The plan's credits come once per month. When the plan gives more within the month, the difference is
        added. They lapse with the month, so a month without any use needs no entries later. A clock that has
        stepped back into the month before begins no month.
        """
        for grant in self._by_expiry():
            if grant.remaining and self._lapsed(grant.expires_at):
                lapsed = grant.remaining
                self._take(grant, lapsed)
                self._enter(EntryKind.EXPIRY, -lapsed, f"expiry:{grant.entry_number}", "expired")
        month = month_of(self.now)
        if self.month < month:
            self.month, self.month_granted, self.touched = month, 0, True
        due = grantable(monthly_credits - self.month_granted, self.balance)
        if due:
            self.month_granted += due
            self._bring_in(
                EntryKind.GRANT,
                due,
                f"monthly:{self.month:%Y-%m}:{self.month_granted}",
                "monthly credits of the plan",
                end_of_month(self.month),
            )

    def carry_out(self, order: CreditOrder, hold: RefundableHold | None) -> CreditEntry | ServiceError:
        """Bring in or take back. `hold` is the hold to refund; None when there is no such committed hold."""
        if order.amount < 0:
            return self._take_back(order)
        if order.refund_of is None:
            return self._grant(order, EntryKind.GRANT, order.operation_id)
        if hold is None or order.amount > hold.credits:
            return invalid_field("refundHoldId", "must name a committed hold that cost at least the amount")
        operation_id = f"refund:{hold.hold_id}"
        if hold.refunded or any(entry.operation_id == operation_id for entry in self.new_entries):
            return invalid_field("refundHoldId", "was refunded already")
        return self._grant(order, EntryKind.REFUND, operation_id)

    def _grant(self, order: CreditOrder, kind: EntryKind, operation_id: str) -> CreditEntry | ServiceError:
        if self._lapsed(order.expires_at):
            return invalid_field("expiresAt", "must be in the future")
        if self.balance + order.amount > BALANCE_MAX:
            return invalid_field("amount", "would make the balance too large")
        return self._bring_in(kind, order.amount, operation_id, order.reason, order.expires_at)

    def _take_back(self, order: CreditOrder) -> CreditEntry | ServiceError:
        """Take credits out that no hold has reserved."""
        if -order.amount > self.available:
            return self._insufficient(-order.amount)
        self._take_from_grants(-order.amount)
        return self._enter(EntryKind.ADJUSTMENT, order.amount, order.operation_id, order.reason)

    def hold(self, amount: int) -> list[HeldCredits] | ServiceError:
        """Reserve credits; returns the parts of the grants that they come from. Held credits do not lapse."""
        if amount > self.available:
            return self._insufficient(amount)
        taken = self._take_from_grants(amount)
        self.held += amount
        return taken

    def spend(self, held: Sequence[HeldCredits], *, operation_id: str, reason: str) -> CreditEntry:
        """Turn a reservation into an expense."""
        amount = sum(part.amount for part in held)
        self.held -= amount
        return self._enter(EntryKind.HOLD_COMMITTED, -amount, operation_id, reason)

    def give_back(self, held: Sequence[HeldCredits], *, operation_id: str) -> None:
        """Undo a reservation. Credits that have lapsed in the meantime leave the ledger at once."""
        for part in held:
            grant = self.grants[part.entry_number]
            self.held -= part.amount
            self.touched = True
            if part.entry_number in self.expired or self._lapsed(grant.expires_at):
                self._enter(
                    EntryKind.EXPIRY, -part.amount, f"{operation_id}:expiry:{part.entry_number}", "expired"
                )
            else:
                self._take(grant, -part.amount)

    def _bring_in(
        self, kind: EntryKind, amount: int, operation_id: str, reason: str, expires_at: datetime | None
    ) -> CreditEntry:
        entry = self._enter(kind, amount, operation_id, reason, expires_at)
        self.grants[entry.entry_number] = Grant(entry.entry_number, amount, expires_at)
        self.touched_grants.add(entry.entry_number)
        return entry

    def _enter(
        self,
        kind: EntryKind,
        amount: int,
        operation_id: str,
        reason: str,
        expires_at: datetime | None = None,
    ) -> CreditEntry:
        self.entries += 1
        self.balance += amount
        self.touched = True
        entry = CreditEntry(
            user_id=self.user_id,
            entry_number=self.entries,
            operation_id=operation_id,
            kind=kind,
            amount=amount,
            reason=reason,
            created_at=self.now,
            expires_at=expires_at,
            balance_after=self.balance,
        )
        self.new_entries.append(entry)
        return entry

    def _take_from_grants(self, amount: int) -> list[HeldCredits]:
        taken: list[HeldCredits] = []
        for grant in self._by_expiry():
            part = min(amount, grant.remaining)
            if part:
                self._take(grant, part)
                taken.append(HeldCredits(grant.entry_number, part))
                amount -= part
            if not amount:
                break
        return taken

    def _take(self, grant: Grant, amount: int) -> None:
        grant.remaining -= amount
        self.touched = True
        self.touched_grants.add(grant.entry_number)

    def _by_expiry(self) -> list[Grant]:
        """In the order of expiry: those that never expire come last, and older ones first among equals."""
        return by_expiry(self.grants.values())

    def _lapsed(self, expires_at: datetime | None) -> bool:
        return expires_at is not None and expires_at <= self.now

    def _insufficient(self, needed: int) -> ServiceError:
        return ServiceError(
            Reason.INSUFFICIENT_CREDITS,
            f"{needed} credits are needed, {self.available} are available",
            metadata={"balance": self.balance, "held": self.held, "needed": needed},
        )


def grantable(due: int, balance: int) -> int:
    """How many of the plan's due credits fit into a balance. The rest comes when there is room again."""
    return max(0, min(due, BALANCE_MAX - balance))


_NEVER = datetime.max.replace(tzinfo=UTC)


def by_expiry(grants: Iterable[Grant]) -> list[Grant]:
    return sorted(grants, key=lambda grant: (grant.expires_at or _NEVER, grant.entry_number))


def operation_known() -> ServiceError:
    """The refusal of an operation that is in the ledger already, although its key is forgotten."""
    return ServiceError(
        Reason.IDEMPOTENCY_KEY_REUSED, "The key was used long ago, and its answer is not stored any more"
    )


class GrantShare(NamedTuple):
    """What is left of a grant as it is stored, and the most that can be left (`room`)."""

    entry_number: int
    remaining: int
    room: int
    expires_at: datetime | None


def shares(grants: Sequence[GrantShare], target: int) -> dict[int, int] | None:
    """What must be left of each grant so that they add up to `target`, changing as little as possible.

    What is too much is taken as it is spent: from the grant that expires first. What is missing is added to
    the one that expires last. None if the grants cannot add up to it.
    """
    if any(grant.room < 0 for grant in grants) or not 0 <= target <= sum(grant.room for grant in grants):
        return None
    left = {grant.entry_number: min(grant.remaining, grant.room) for grant in grants}
    ordered = sorted(grants, key=lambda grant: (grant.expires_at or _NEVER, grant.entry_number))
    surplus = sum(left.values()) - target
    for grant in ordered:
        taken = max(0, min(surplus, left[grant.entry_number]))
        left[grant.entry_number] -= taken
        surplus -= taken
    for grant in reversed(ordered):
        added = max(0, min(-surplus, grant.room - left[grant.entry_number]))
        left[grant.entry_number] += added
        surplus += added
    return left
