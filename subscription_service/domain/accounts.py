"""Accounts: who may use the system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from chassis.errors import FieldViolation, Reason, ServiceError


class AccountStatus(StrEnum):
    ACTIVE = "active"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """What an account should be: the whole of it, as a PUT says it."""

    user_id: str
    email: str
    display_name: str
    email_verified: bool
    status: AccountStatus

    @property
    def email_key(self) -> str:
        return email_key(self.email)


@dataclass(frozen=True, slots=True)
class Account:
    user_id: str
    email: str
    display_name: str
    email_verified: bool
    status: AccountStatus
    created_at: datetime
    updated_at: datetime

    @property
    def email_key(self) -> str:
        return email_key(self.email)


def email_key(email: str) -> str:
    """What two accounts may not share: the address without regard to case."""
    return email.lower()


def invalid_user_reference() -> ServiceError:
    """The refusal of every use of an account that does not exist or is not active."""
    return ServiceError(Reason.INVALID_USER_REFERENCE)


def email_taken() -> ServiceError:
    """The refusal of an e-mail address that another account has, in whatever case."""
    violations: Sequence[FieldViolation] = [FieldViolation("email", "belongs to another account")]
    return ServiceError(Reason.INVALID_ARGUMENT, "email: belongs to another account", violations=violations)


@dataclass(slots=True)
class Directory:
    """The accounts that a batch is about, who has the e-mail addresses it wants, and what was decided."""

    now: datetime
    accounts: dict[str, Account]
    email_owners: dict[str, str]
    created: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)

    def put(self, details: AccountDetails) -> Account | ServiceError:
        """Create or replace an account; one that is as it should be stays untouched."""
        if self.email_owners.get(details.email_key, details.user_id) != details.user_id:
            return email_taken()
        existing = self.accounts.get(details.user_id)
        if existing is not None and _details_of(existing) == details:
            return existing
        account = Account(
            user_id=details.user_id,
            email=details.email,
            display_name=details.display_name,
            email_verified=details.email_verified,
            status=details.status,
            created_at=self.now if existing is None else existing.created_at,
            updated_at=self.now,
        )
        if existing is None:
            self.created.add(details.user_id)
        elif self.email_owners.get(existing.email_key) == details.user_id:
            del self.email_owners[existing.email_key]
        self.changed.add(details.user_id)
        self.accounts[details.user_id] = account
        self.email_owners[account.email_key] = details.user_id
        return account


def _details_of(account: Account) -> AccountDetails:
    return AccountDetails(
        account.user_id, account.email, account.display_name, account.email_verified, account.status
    )
