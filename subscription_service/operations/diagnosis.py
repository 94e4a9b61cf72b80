"""The checks of subscription_service, and the repairs that mend what they find."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.diagnostics.checks import Check
from chassis.diagnostics.constraints import constraint_check
from chassis.diagnostics.repairs import Repair
from chassis.diagnostics.tables import Rows
from chassis.postgres import Database
from subscription_service.store.checks_accounts import account_checks
from subscription_service.store.checks_credits import credit_checks
from subscription_service.store.checks_licenses import license_checks
from subscription_service.store.checks_quota import quota_checks
from subscription_service.store.orphans import ORPHAN_REPAIRS, orphan_checks
from subscription_service.store.repairs_accounts import ACCOUNT_REPAIRS
from subscription_service.store.repairs_credits import CREDIT_REPAIRS
from subscription_service.store.repairs_licenses import LICENSE_REPAIRS, LicenseChangeRows
from subscription_service.store.repairs_quota import QUOTA_REPAIRS

# An account must have a subscription before anything else of it makes sense, so those repairs come first.
REPAIRS: tuple[Repair, ...] = (
    *ACCOUNT_REPAIRS,
    *QUOTA_REPAIRS,
    *CREDIT_REPAIRS,
    *LICENSE_REPAIRS,
    *ORPHAN_REPAIRS,
)

# The primary key of the e-mail catalog is an address, which no finding shows.
_TABLES: Mapping[str, tuple[str, ...]] = {
    "accounts": (),
    "account_emails": ("user_id",),
    "plans": (),
    "subscriptions": (),
    "subscription_changes": (),
    "daily_usage": (),
    "holds": (),
    "credit_balances": (),
    "credit_entries": (),
    "credit_grants": (),
    "hold_credits": (),
    "licenses": (),
    "license_events": (),
    "license_changes": (),
    "license_feed": (),
}


def checks(database: Database) -> list[Check]:
    """All checks of the service, over this database."""
    return [
        *account_checks(database),
        *quota_checks(database),
        *credit_checks(database),
        *license_checks(database),
        *orphan_checks(database),
        constraint_check(database, "subscription", _TABLES),
    ]


def special_rows() -> dict[str, Rows]:
    """Tables whose rows a repair writes in a way of their own, by name."""
    return {"license_changes": LicenseChangeRows()}
