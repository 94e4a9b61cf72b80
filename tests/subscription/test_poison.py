"""A value that breaks every reader costs its own request alone; the contract and the tables refuse it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from chassis.errors import Reason, ServiceError
from chassis.rpc.validation import validate
from protos.subscription.v1 import accounts_pb2, credits_pb2, holds_pb2, licenses_pb2
from tests.subscription.service import ACCOUNTS, CREDITS, HOLDS, LICENSES, Subscriptions, placement, refused

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
OUT_OF_RANGE = [ZERO_TIME, datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)]
STRANGERS = 60
POISONED = 17


def set_subscription(user_id: str, **fields: Any) -> accounts_pb2.SetSubscriptionRequest:
    return accounts_pb2.SetSubscriptionRequest(user_id=user_id, plan_id="plus", status="ACTIVE", **fields)


@pytest.mark.parametrize("moment", OUT_OF_RANGE)
async def test_a_time_out_of_range_is_refused_by_the_contract(moment: datetime) -> None:
    grant = credits_pb2.AdjustCreditsRequest(user_id="ann", amount=1, reason="r", expires_at=moment)
    for request, field in ((set_subscription("ann", period_end=moment), "periodEnd"), (grant, "expiresAt")):
        refusal = validate(request)
        assert isinstance(refusal, ServiceError)
        assert [violation.field for violation in refusal.violations] == [field]


@pytest.mark.parametrize("moment", [datetime(2000, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC)])
async def test_a_time_at_the_end_of_the_range_is_accepted(
    subscriptions: Subscriptions, moment: datetime
) -> None:
    ann = await subscriptions.account("ann")
    request = set_subscription(ann, period_end=moment)
    assert validate(request) is None
    response = await subscriptions.one(ACCOUNTS, "SetSubscription", request, key="k")
    assert response.subscription.period_end.ToDatetime(UTC) == moment
    assert (await subscriptions.entitlements(ann)).tests.limit == (3 if moment.year == 2000 else 20)


@pytest.mark.parametrize("moment", OUT_OF_RANGE)
async def test_a_time_that_gets_past_the_contract_is_refused_and_costs_no_neighbour(
    subscriptions: Subscriptions, moment: datetime
) -> None:
    users = await subscriptions.accounts(STRANGERS + 1)
    orders = [
        set_subscription(user_id, period_end=moment if place == POISONED else None)
        for place, user_id in enumerate(users)
    ]
    outcomes = await subscriptions.batch(ACCOUNTS, "SetSubscription", orders, keys=users)
    refused(outcomes.pop(POISONED), Reason.INVALID_ARGUMENT)
    assert {outcome.subscription.plan_id for outcome in outcomes} == {"plus"}
    # The learner is as before, and so are all who are served together with it.
    placed = await subscriptions.batch(HOLDS, "PlaceHold", [placement(user_id) for user_id in users])
    assert all(outcome.hold.state == holds_pb2.Hold.OPEN for outcome in placed)
    grants = [
        credits_pb2.AdjustCreditsRequest(
            user_id=user_id, amount=1, reason="r", expires_at=moment if place == POISONED else None
        )
        for place, user_id in enumerate(users)
    ]
    outcomes = await subscriptions.batch(CREDITS, "AdjustCredits", grants, keys=users)
    refused(outcomes.pop(POISONED), Reason.INVALID_ARGUMENT)
    assert all(outcome.balance == 1 for outcome in outcomes)
    assert await subscriptions.discrepancies() == []


@pytest.mark.parametrize("moment", ["-infinity", "infinity", "1999-12-31 23:59:59+00", "2100-01-01 00:00+00"])
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("subscriptions", "period_end"),
        ("subscription_changes", "period_end"),
        ("credit_entries", "expires_at"),
        ("credit_grants", "expires_at"),
    ],
)
async def test_a_table_refuses_a_time_out_of_range(
    subscriptions: Subscriptions, table: str, column: str, moment: str
) -> None:
    ann = await subscriptions.account("ann")
    grant = credits_pb2.AdjustCreditsRequest(user_id=ann, amount=1, reason="r")
    await subscriptions.one(CREDITS, "AdjustCredits", grant, key="k")
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await subscriptions.truth.execute(
            f"UPDATE {table} SET {column} = $1::text::timestamptz WHERE user_id = $2",  # noqa: S608 - ours
            moment,
            ann,
        )
    assert refusal.value.constraint_name == f"{table}_{column}_in_range"


@pytest.mark.parametrize("nanos", [-1, 10**9])
async def test_a_time_with_impossible_nanoseconds_names_its_field(
    subscriptions: Subscriptions, nanos: int
) -> None:
    ann = await subscriptions.account("ann")
    never = {"seconds": 1_900_000_000, "nanos": nanos}
    order = set_subscription(ann, period_end=never)
    grant = credits_pb2.AdjustCreditsRequest(user_id=ann, amount=1, reason="r", expires_at=never)
    holds = holds_pb2.ListOpenHoldsRequest(
        method="/m", placed_after={"placed_at": never, "user_id": ann, "hold_id": str(uuid.uuid4())}
    )
    for service, method, request, field in (
        (ACCOUNTS, "SetSubscription", order, "periodEnd"),
        (CREDITS, "AdjustCredits", grant, "expiresAt"),
        (HOLDS, "ListOpenHolds", holds, "placedAfter.placedAt"),
    ):
        (outcome,) = await subscriptions.batch(service, method, [request], keys=["k"])
        refused(outcome, Reason.INVALID_ARGUMENT)
        assert [violation.field for violation in outcome.violations] == [field]


async def test_a_request_that_cannot_be_converted_costs_no_neighbour(subscriptions: Subscriptions) -> None:
    """The contract refuses such requests earlier, but a servicer does not rely on it."""
    users = await subscriptions.accounts(STRANGERS + 1)
    batches: list[tuple[str, str, list[Any]]] = [
        (HOLDS, "PlaceHold", [placement(user_id) for user_id in users]),
        (ACCOUNTS, "SetSubscription", [set_subscription(user_id) for user_id in users]),
        (LICENSES, "ApplyLicenseLevel", [level(user_id=user_id) for user_id in users]),
    ]
    batches[0][2][POISONED].hold_id = "not a uuid"
    batches[1][2][POISONED].period_end.seconds = -(2**62)
    batches[2][2][POISONED].event_id = ""
    for service, method, requests in batches:
        outcomes = await subscriptions.batch(service, method, requests, keys=users)
        assert isinstance(outcomes.pop(POISONED), ServiceError), method
        assert not [outcome for outcome in outcomes if isinstance(outcome, ServiceError)], method


async def everything_about(subscriptions: Subscriptions, users: list[str]) -> dict[str, list[Any]]:
    """The outcomes of one batch of each kind for these learners."""
    ask = subscriptions.batch
    return {
        "place": await ask(HOLDS, "PlaceHold", [placement(user_id) for user_id in users]),
        "place with credits": await ask(
            HOLDS, "PlaceHold", [placement(user_id, tests=0, credits=1) for user_id in users]
        ),
        "entitlements": await ask(
            ACCOUNTS, "GetEntitlements", [accounts_pb2.GetEntitlementsRequest(user_id=u) for u in users]
        ),
        "adjust": await ask(
            CREDITS,
            "AdjustCredits",
            [credits_pb2.AdjustCreditsRequest(user_id=u, amount=1, reason="r") for u in users],
            keys=[str(uuid.uuid4()) for _ in users],
        ),
        "ledger": await ask(
            CREDITS, "ListCreditEntries", [credits_pb2.ListCreditEntriesRequest(user_id=u) for u in users]
        ),
    }


@pytest.mark.parametrize(
    ("constraint", "poison", "spared"),
    [
        (
            "subscriptions_period_end_in_range ON subscriptions",
            "UPDATE subscriptions SET period_end = '-infinity' WHERE user_id = $1",
            set(),
        ),
        (
            "credit_grants_expires_at_in_range ON credit_grants",
            "UPDATE credit_grants SET expires_at = '-infinity' WHERE user_id = $1",
            # These two read no single grant: the database itself finds that it has lapsed.
            {"place", "entitlements"},
        ),
    ],
)
async def test_a_poisonous_row_fails_its_learner_alone(
    subscriptions: Subscriptions, constraint: str, poison: str, spared: set[str]
) -> None:
    users = await subscriptions.accounts(STRANGERS + 1)
    grants = [credits_pb2.AdjustCreditsRequest(user_id=u, amount=5, reason="r") for u in users]
    await subscriptions.batch(CREDITS, "AdjustCredits", grants, keys=users)
    name, table = constraint.split(" ON ")
    await subscriptions.truth.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    await subscriptions.truth.execute(poison, users[POISONED])
    for kind, outcomes in (await everything_about(subscriptions, users)).items():
        poisoned = outcomes.pop(POISONED)
        assert isinstance(poisoned, ServiceError) is (kind not in spared), (kind, poisoned)
        assert not [outcome for outcome in outcomes if isinstance(outcome, ServiceError)], kind


def level(**fields: Any) -> licenses_pb2.ApplyLicenseLevelRequest:
    base = {"user_id": "ann", "specialization": "p", "level": 1, "max_level": 1, "reason": "r"}
    return licenses_pb2.ApplyLicenseLevelRequest(event_id=str(uuid.uuid4()), **(base | fields))


@pytest.mark.parametrize(
    ("request_", "field", "largest"),
    [
        (accounts_pb2.PutPlanRequest(plan_id="p", name="p"), "monthly_credits", 1_000_000),
        (accounts_pb2.PutPlanRequest(plan_id="p", name="p"), "daily_test_limit", 1_000_000),
        (level(), "max_level", 10_000),
        (level(max_level=10_000), "level", 10_000),
        (level(), "epoch", 1_000_000_000),
        (
            licenses_pb2.AdvanceLicenseRequest(user_id="ann", specialization="p", reason="r"),
            "to_level",
            10_000,
        ),
        (holds_pb2.ListOpenHoldsRequest(method="m"), "older_than_seconds", 1_000_000_000),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_number_beyond_its_bound_is_refused_by_the_contract(
    request_: Any, field: str, largest: int
) -> None:
    setattr(request_, field, largest)
    assert validate(request_) is None
    setattr(request_, field, largest + 1)
    assert validate(request_) is not None


@pytest.mark.parametrize(
    ("table", "column", "longest"),
    [
        ("accounts", "email", 254),
        ("accounts", "display_name", 200),
        ("plans", "name", 200),
        ("subscription_changes", "changed_by", 128),
        ("holds", "subject", 300),
        ("holds", "method", 200),
        ("holds", "idempotency_key", 255),
        ("credit_entries", "reason", 500),
        ("license_changes", "changed_by", 128),
        ("license_changes", "reason", 500),
    ],
)
async def test_the_tables_have_the_bounds_that_the_contract_has_for_texts(
    subscriptions: Subscriptions, table: str, column: str, longest: int
) -> None:
    ann = await subscriptions.account("ann")
    grant = credits_pb2.AdjustCreditsRequest(user_id=ann, amount=1, reason="r")
    await subscriptions.one(CREDITS, "AdjustCredits", grant, key="k")
    await subscriptions.one(HOLDS, "PlaceHold", placement(ann))
    level = licenses_pb2.ApplyLicenseLevelRequest(
        user_id=ann, specialization="arts", level=1, max_level=2, event_id=str(uuid.uuid4()), reason="r"
    )
    await subscriptions.one(LICENSES, "ApplyLicenseLevel", level)
    change = f"UPDATE {table} SET {column} = repeat('é', $1)"  # noqa: S608 - our own names
    await subscriptions.truth.execute(change, longest)
    with pytest.raises(asyncpg.CheckViolationError):
        await subscriptions.truth.execute(change, longest + 1)
