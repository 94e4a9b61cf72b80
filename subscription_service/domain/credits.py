"""Credits: a ledger that sums to the balance, and the grants it is spent from, soonest-expiring first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from chassis.errors import FieldViolation, Reason, ServiceError
from subscription_service.domain.utc_calendar import end_of_month, month_of

BALANCE_MAX = 2_000_000_000
"""Balances are int32 in the contract."""


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
    """A committed hold, and the credits that it has spent."""

    hold_id: UUID
    credits: int


@dataclass(slots=True)
class Grant:
    """What is left, neither spent nor held, of an entry that brought credits in."""

    entry_number: int
    remaining: int
    expires_at: datetime | None


class HeldCredits(NamedTuple):
    """Credits that a hold took from one grant."""

    entry_number: int
    amount: int


@dataclass(slots=True)
class Wallet:
    """A learner's credits as they were read, and what is decided about them before they are written.

    At every moment balance = sum of the ledger = held + what remains of the grants. `month` is the UTC month
    (its first day) that `month_granted` credits of the plan were granted for.
    """

    user_id: str
    now: datetime
    balance: int
    held: int
    entries: int
    month: date
    month_granted: int
    grants: dict[int, Grant]
    new_entries: list[CreditEntry] = field(default_factory=list)
    touched: bool = False
    touched_grants: set[int] = field(default_factory=set)

    @property
    def available(self) -> int:
        return self.balance - self.held

    def settle(self, monthly_credits: int) -> None:
        """Bring the ledger up to now: what has lapsed leaves it, this month's plan credits enter it.

        The plan's credits come once per month; when the plan comes to give more within the month, the rest is
        added. They lapse with the month, so months in which nobody looked need not be made up for.
        """
        for grant in self._by_expiry():
            if grant.remaining and self._lapsed(grant.expires_at):
                lapsed = grant.remaining
                self._take(grant, lapsed)
                self._enter(EntryKind.EXPIRY, -lapsed, f"expiry:{grant.entry_number}", "expired")
        month = month_of(self.now)
        if self.month != month:
            self.month, self.month_granted, self.touched = month, 0, True
        due = monthly_credits - self.month_granted
        if due > 0 and self.balance + due <= BALANCE_MAX:
            self.month_granted, self.touched = monthly_credits, True
            self._bring_in(
                EntryKind.GRANT,
                due,
                f"monthly:{month:%Y-%m}:{monthly_credits}",
                "monthly credits of the plan",
                end_of_month(month),
            )

    def carry_out(self, order: CreditOrder, hold: RefundableHold | None) -> CreditEntry | ServiceError:
        """Bring in or take back; `hold` is what a refund is for, None when there is none to refund."""
        if order.amount < 0:
            return self._take_back(order)
        if order.refund_of is None:
            return self._grant(order, EntryKind.GRANT, order.operation_id)
        if hold is None or order.amount > hold.credits:
            return _violation("refundHoldId", "must name a committed hold that cost at least the amount")
        return self._grant(order, EntryKind.REFUND, f"refund:{hold.hold_id}")

    def _grant(self, order: CreditOrder, kind: EntryKind, operation_id: str) -> CreditEntry | ServiceError:
        if self._lapsed(order.expires_at):
            return _violation("expiresAt", "must be in the future")
        if self.balance + order.amount > BALANCE_MAX:
            return _violation("amount", "would make the balance too large")
        return self._bring_in(kind, order.amount, operation_id, order.reason, order.expires_at)

    def _take_back(self, order: CreditOrder) -> CreditEntry | ServiceError:
        """Take credits out that no hold has reserved."""
        if -order.amount > self.available:
            return self._insufficient(-order.amount)
        self._take_from_grants(-order.amount)
        return self._enter(EntryKind.ADJUSTMENT, order.amount, order.operation_id, order.reason)

    def hold(self, amount: int) -> list[HeldCredits] | ServiceError:
        """Reserve credits; says from which grants. They cannot lapse while they are held."""
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
        """Undo a reservation. What has lapsed in the meantime leaves the ledger at once."""
        for part in held:
            grant = self.grants[part.entry_number]
            self.held -= part.amount
            self.touched = True
            if self._lapsed(grant.expires_at):
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
        """Soonest-expiring first, those that never expire last; older ones first among equals."""
        return by_expiry(self.grants.values())

    def _lapsed(self, expires_at: datetime | None) -> bool:
        return expires_at is not None and expires_at <= self.now

    def _insufficient(self, needed: int) -> ServiceError:
        return ServiceError(
            Reason.INSUFFICIENT_CREDITS,
            f"{needed} credits are needed, {self.available} are available",
            metadata={"balance": self.balance, "held": self.held, "needed": needed},
        )


_NEVER = datetime.max.replace(tzinfo=UTC)


def by_expiry(grants: Iterable[Grant]) -> list[Grant]:
    return sorted(grants, key=lambda grant: (grant.expires_at or _NEVER, grant.entry_number))


def _violation(field_name: str, description: str) -> ServiceError:
    return ServiceError(
        Reason.INVALID_ARGUMENT,
        f"{field_name}: {description}",
        violations=[FieldViolation(field_name, description)],
    )


def refunded_already() -> ServiceError:
    """The refusal of a second refund of one hold."""
    return _violation("refundHoldId", "was refunded already")
