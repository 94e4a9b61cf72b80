"""Lists: their tokens and the sizes of their pages. A fault of one reader costs no other reader."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from chassis.rpc.servicing import PAGE_BYTES_MAX, UnaryHandler
from protos.subscription.v1 import (
    accounts_pb2,
    credits_pb2,
    holds_pb2,
    license_levels_pb2,
    licenses_pb2,
)
from tests.subscription.service import (
    ACCOUNTS,
    CREATE_SESSION,
    CREDITS,
    HOLDS,
    LEVELS,
    LICENSES,
    PLANS,
    Subscriptions,
    refused,
)

LISTS: list[tuple[str, str, Any]] = [
    (PLANS, "ListPlans", accounts_pb2.ListPlansRequest()),
    (ACCOUNTS, "ListSubscriptionChanges", accounts_pb2.ListSubscriptionChangesRequest(user_id="ann")),
    (CREDITS, "ListMyCreditEntries", credits_pb2.ListMyCreditEntriesRequest()),
    (CREDITS, "ListCreditEntries", credits_pb2.ListCreditEntriesRequest(user_id="ann")),
    (LICENSES, "ListMyLicenses", licenses_pb2.ListMyLicensesRequest()),
    (LICENSES, "ListLicenses", licenses_pb2.ListLicensesRequest(user_id="ann")),
    (LICENSES, "GetLicenseHistory", licenses_pb2.GetLicenseHistoryRequest(specialization="physics")),
    (LEVELS, "ListLicenseLevels", license_levels_pb2.ListLicenseLevelsRequest()),
    (HOLDS, "ListOpenHolds", holds_pb2.ListOpenHoldsRequest(method=CREATE_SESSION)),
]
FORGED = [
    [99999999999],
    [2**63],
    [-1],
    ["\0"],
    ["a"],
    [],
    {},
    None,
    ["yesterday", "ann", str(uuid.uuid4())],
    ["2026-01-01T00:00:00+00:00", "ann", "one"],
]


def tokens_of(subscriptions: Subscriptions) -> list[str]:
    """Tokens that were not written for these lists: without a seal, with a foreign seal, and nonsense."""
    payloads = [json.dumps(value).encode() for value in FORGED]
    forged = [base64.urlsafe_b64encode(payload).decode() for payload in payloads]
    forged += [base64.urlsafe_b64encode(bytes(12) + payload).decode() for payload in payloads]
    return [*forged, subscriptions.tokens.write("another list", (1,)), "nonsense!", "=", "ä", "x" * 1000]


@pytest.mark.parametrize(("service", "method", "request_"), LISTS, ids=[method for _, method, _ in LISTS])
async def test_a_forged_page_token_is_the_refusal_of_its_own_request(
    subscriptions: Subscriptions, service: str, method: str, request_: Any
) -> None:
    ann = await subscriptions.account("ann")
    requests = []
    for token in tokens_of(subscriptions):
        forged = type(request_)()
        forged.CopyFrom(request_)
        forged.page_token = token
        requests += [forged, request_]
    outcomes = await subscriptions.batch(service, method, requests, user_id=ann)
    for outcome in outcomes[::2]:
        refused(outcome, Reason.INVALID_ARGUMENT)
        assert [violation.field for violation in outcome.violations] == ["pageToken"]
    assert not [outcome for outcome in outcomes[1::2] if isinstance(outcome, ServiceError)]


@pytest.mark.parametrize(("service", "method", "request_"), LISTS, ids=[method for _, method, _ in LISTS])
async def test_a_list_that_is_out_of_time_costs_no_other(
    subscriptions: Subscriptions, service: str, method: str, request_: Any
) -> None:
    ann = await subscriptions.account("ann")
    handler = subscriptions.handlers[f"/{service}/{method}"]
    assert isinstance(handler, UnaryHandler)
    items = [Item(subscriptions.call(handler.method.path, user_id=ann), request_) for _ in range(5)]
    subscriptions.timeout_seconds = -1.0
    items[2] = Item(subscriptions.call(handler.method.path, user_id=ann), request_)
    outcomes: list[Any] = await handler.answer(items)
    refused(outcomes.pop(2), Reason.DEADLINE_EXCEEDED)
    assert not [outcome for outcome in outcomes if isinstance(outcome, ServiceError)]


async def test_a_page_of_large_rows_ends_at_its_bytes_and_the_list_is_complete(
    subscriptions: Subscriptions,
) -> None:
    features = [f"{number:03}" + 97 * "\U0001f393" for number in range(100)]  # 39 KB in each plan
    plan_ids = [f"plan-{number:03}" for number in range(60)]
    for plan_id in plan_ids:
        await subscriptions.plan(plan_id, limit=None, features=features)
    request = accounts_pb2.ListPlansRequest(page_size=500)
    listed: list[str] = []
    pages = 0
    while True:
        response = await subscriptions.one(PLANS, "ListPlans", request)
        assert response.ByteSize() < PAGE_BYTES_MAX + 2000
        listed += [plan.plan_id for plan in response.plans]
        pages += 1
        request.page_token = response.next_page_token
        if not request.page_token:
            break
    assert listed == sorted([*plan_ids, "free", "plus", "unlimited"])
    assert pages > 1


async def test_open_holds_are_listed_behind_a_position_that_the_reader_has_stored(
    subscriptions: Subscriptions,
) -> None:
    now = subscriptions.clock.set("2026-03-01T12:00:00+00:00")
    users = await subscriptions.accounts(3)
    placed = []
    for second in range(2):
        subscriptions.clock.moment = now + timedelta(seconds=second, microseconds=7)
        # Three at the same microsecond, in the order of their learners.
        placed += [await subscriptions.place(user_id) for user_id in users]
    subscriptions.clock.moment = now + timedelta(minutes=1)
    after: Any = None
    for hold in [None, *placed]:
        if hold is not None:
            after = holds_pb2.OpenHoldPosition(
                placed_at=hold.placed_at, user_id=hold.user_id, hold_id=hold.hold_id
            )
        request = holds_pb2.ListOpenHoldsRequest(method=CREATE_SESSION, page_size=2, placed_after=after)
        found = []
        while True:
            response = await subscriptions.one(HOLDS, "ListOpenHolds", request)
            found += response.holds
            request.page_token = response.next_page_token
            if not request.page_token:
                break
        assert found == placed[placed.index(hold) + 1 if hold in placed else 0 :]


async def test_a_position_may_name_a_hold_that_is_resolved_since(subscriptions: Subscriptions) -> None:
    now = subscriptions.clock.set("2026-03-01T12:00:00+00:00")
    ann = await subscriptions.account("ann")
    first = await subscriptions.place(ann)
    subscriptions.clock.moment = now + timedelta(seconds=1)
    second = await subscriptions.place(ann)
    await subscriptions.release(first)
    after = holds_pb2.OpenHoldPosition(
        placed_at=first.placed_at, user_id=first.user_id, hold_id=first.hold_id
    )
    request = holds_pb2.ListOpenHoldsRequest(method=CREATE_SESSION, placed_after=after)
    assert list((await subscriptions.one(HOLDS, "ListOpenHolds", request)).holds) == [second]
    assert first.placed_at.ToDatetime(UTC) == datetime(2026, 3, 1, 12, tzinfo=UTC)
