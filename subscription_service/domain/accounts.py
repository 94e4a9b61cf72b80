"""Accounts: who may use the system."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from chassis.errors import Reason, ServiceError, invalid_field


class AccountStatus(StrEnum):
    ACTIVE = "active"
    INACTIVE = "inactive"


class AccountStanding(StrEnum):
    """What an account may do, in short; it does not say whether an inactive account exists."""

    NOT_ACTIVE = "not active"
    UNVERIFIED = "unverified"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """What an account should be; a PUT gives all of it."""

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


@dataclass(frozen=True, slots=True)
class ListOwner:
    """The learner whose rows a list shows; with `also_inactive`, also when the account is inactive."""

    user_id: str
    also_inactive: bool


def email_key(email: str) -> str:
    """The address without regard to case. Two accounts never have the same one."""
    return email.lower()


def invalid_user_reference() -> ServiceError:
    """The refusal of every use of an account that does not exist or is not active."""
    return ServiceError(Reason.INVALID_USER_REFERENCE)


def email_taken() -> ServiceError:
    """The refusal of an e-mail address that another account has, in upper or lower case."""
    return invalid_field("email", "belongs to another account")


@dataclass(slots=True)
class Directory:
    """The accounts of a batch, the owners of the e-mail addresses that it wants, and the decisions."""

    now: datetime
    accounts: dict[str, Account]
    email_owners: dict[str, str]
    created: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)

    def put(self, details: AccountDetails) -> Account | ServiceError:
        """Create or replace an account. An account that equals the details stays untouched."""
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
