"""The statements name the columns of the tables, and the domain names its fields like the columns."""

from __future__ import annotations

import dataclasses

import pytest

from subscription_service.domain.accounts import Account
from subscription_service.domain.credits import CreditEntry, Grant, HeldCredits
from subscription_service.domain.holds import Hold
from subscription_service.domain.licenses import License, LicenseEvent, Progression
from subscription_service.domain.plans import Plan
from subscription_service.domain.subscriptions import SubscriptionChange
from subscription_service.store import (
    accounts,
    hold_rows,
    license_reads,
    licenses,
    plans,
    subscriptions,
    wallets,
)
from tests.subscription.service import Subscriptions

# The definition, its table, and the columns that only the database sets.
DEFINITIONS = [
    (accounts.ACCOUNT, "accounts", set()),
    (hold_rows.HOLD, "holds", set()),
    (hold_rows.USAGE, "daily_usage", set()),
    (wallets.ENTRY, "credit_entries", set()),
    (wallets.BALANCE, "credit_balances", set()),
    (wallets.GRANT, "credit_grants", set()),
    (wallets.HELD_CREDITS, "hold_credits", set()),
    (subscriptions.SUBSCRIPTION, "subscriptions", set()),
    (subscriptions.CHANGE, "subscription_changes", set()),
    (plans.PLAN, "plans", {"is_default", "updated_at"}),
    (licenses.EVENT, "license_events", set()),
    (license_reads.LICENSE, "licenses", set()),
    (license_reads.PROGRESSION, "license_changes", {"sequence"}),
]
TYPES = {"timestamptz": "timestamp with time zone", "text[]": "ARRAY"}


def columns_of(definition: str) -> dict[str, str]:
    pairs = (column.split() for column in definition.split(","))
    return {name: TYPES.get(type_, type_) for name, type_ in pairs}


@pytest.mark.parametrize(
    ("definition", "table", "own"), DEFINITIONS, ids=[table for _, table, _ in DEFINITIONS]
)
async def test_a_definition_has_the_columns_and_types_of_its_table(
    subscriptions: Subscriptions, definition: str, table: str, own: set[str]
) -> None:
    rows = await subscriptions.truth.fetch(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1", table
    )
    stored = {row["column_name"]: row["data_type"] for row in rows}
    assert {name: type_ for name, type_ in stored.items() if name not in own} == columns_of(definition)


@pytest.mark.parametrize(
    ("definition", "domain", "keys"),
    [
        (accounts.ACCOUNT, Account, set()),
        (hold_rows.HOLD, Hold, set()),
        (wallets.ENTRY, CreditEntry, set()),
        (wallets.GRANT, Grant, {"user_id"}),
        (wallets.HELD_CREDITS, HeldCredits, {"user_id", "hold_id"}),
        (subscriptions.CHANGE, SubscriptionChange, set()),
        (plans.PLAN, Plan, set()),
        (licenses.EVENT, LicenseEvent, {"user_id", "received_at"}),
        (license_reads.LICENSE, License, set()),
        (license_reads.PROGRESSION, Progression, set()),
    ],
)
def test_the_fields_of_a_domain_object_are_the_columns(definition: str, domain: type, keys: set[str]) -> None:
    """A row of JSON names its columns by the fields: a field of another name would be stored as NULL."""
    fields = (
        [field.name for field in dataclasses.fields(domain)]
        if dataclasses.is_dataclass(domain)
        else list(domain._fields)
    )
    assert {*fields, *keys} == set(columns_of(definition))
