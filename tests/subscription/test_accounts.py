from __future__ import annotations

import asyncio
import itertools

import pytest

from chassis.errors import Reason, ServiceError
from protos.subscription.v1 import accounts_pb2 as pb
from tests.subscription.service import ACCOUNTS, PLANS, Subscriptions, refused


def put(user_id: str, email: str = "", **fields: object) -> pb.PutAccountRequest:
    return pb.PutAccountRequest(user_id=user_id, email=email or f"{user_id}@example.com", **fields)


async def test_creating_an_account_subscribes_it_to_the_default_plan(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann", display_name="Ann", email_verified=True)
    response = await subscriptions.one(ACCOUNTS, "GetAccount", pb.GetAccountRequest(user_id=ann))
    assert response.account.display_name == "Ann"
    assert response.account.email_verified
    assert response.account.status == pb.Account.ACTIVE
    entitlements = await subscriptions.entitlements(ann)
    assert entitlements.plan_id == "free"
    assert entitlements.email_verified
    assert entitlements.status == pb.Subscription.ACTIVE
    assert (entitlements.tests.limit, entitlements.tests.remaining) == (3, 3)
    assert (entitlements.credits.balance, entitlements.credits.available) == (0, 0)


async def test_a_failed_creation_leaves_neither_account_nor_subscription(
    subscriptions: Subscriptions,
) -> None:
    await subscriptions.truth.execute(
        "ALTER TABLE subscriptions ADD CONSTRAINT nobody_called_eve CHECK (user_id <> 'eve')"
    )
    outcomes = await subscriptions.batch(ACCOUNTS, "PutAccount", [put("ann"), put("eve"), put("bob")])
    refused(outcomes[1], Reason.INVALID_ARGUMENT)
    rows = await subscriptions.truth.fetch("SELECT user_id FROM accounts ORDER BY user_id")
    assert [row["user_id"] for row in rows] == ["ann", "bob"]
    assert await subscriptions.discrepancies() == []


async def test_putting_the_same_account_again_changes_nothing(subscriptions: Subscriptions) -> None:
    first = await subscriptions.one(ACCOUNTS, "PutAccount", put("ann"))
    assert await subscriptions.one(ACCOUNTS, "PutAccount", put("ann")) == first
    renamed = await subscriptions.one(ACCOUNTS, "PutAccount", put("ann", display_name="Ann"))
    assert renamed.account.created_at == first.account.created_at
    assert renamed.account.updated_at.ToDatetime() > first.account.updated_at.ToDatetime()
    changes = await subscriptions.truth.fetchval("SELECT count(*) FROM subscription_changes")
    assert changes == 1


async def test_an_email_belongs_to_one_account_whatever_its_case(subscriptions: Subscriptions) -> None:
    await subscriptions.account("ann", email="Ann@Example.com")
    for outcome in await subscriptions.batch(
        ACCOUNTS, "PutAccount", [put("bob", "ann@example.COM"), put("eve", "ANN@EXAMPLE.COM")]
    ):
        refused(outcome, Reason.INVALID_ARGUMENT)
        assert [violation.field for violation in outcome.violations] == ["email"]
    assert await subscriptions.truth.fetchval("SELECT count(*) FROM accounts") == 1
    # Its own address, in another case, is not a conflict.
    again = await subscriptions.one(ACCOUNTS, "PutAccount", put("ann", "ann@example.com"))
    assert again.account.email == "ann@example.com"


async def test_a_freed_email_can_be_taken_later_in_the_same_batch_but_not_earlier(
    subscriptions: Subscriptions,
) -> None:
    await subscriptions.account("ann", email="one@example.com")
    await subscriptions.account("bob", email="two@example.com")
    outcomes = await subscriptions.batch(
        ACCOUNTS,
        "PutAccount",
        [put("bob", "one@example.com"), put("ann", "three@example.com"), put("bob", "one@example.com")],
    )
    refused(outcomes[0], Reason.INVALID_ARGUMENT)
    assert outcomes[2].account.email == "one@example.com"
    rows = await subscriptions.truth.fetch("SELECT email_key, user_id FROM account_emails ORDER BY 1")
    assert [tuple(row) for row in rows] == [("one@example.com", "bob"), ("three@example.com", "ann")]


async def test_many_who_create_the_same_accounts_at_once_all_succeed(subscriptions: Subscriptions) -> None:
    requests = [put(f"learner-{number}") for number in range(20)]
    answers = await asyncio.gather(
        *(subscriptions.batch(ACCOUNTS, "PutAccount", order) for order in (requests, requests[::-1]) * 4)
    )
    for outcome in itertools.chain.from_iterable(answers):
        assert isinstance(outcome, pb.PutAccountResponse), outcome
    assert await subscriptions.truth.fetchval("SELECT count(*) FROM accounts") == 20
    assert await subscriptions.discrepancies() == []


async def test_of_many_who_want_one_email_exactly_one_gets_it(subscriptions: Subscriptions) -> None:
    answers = await asyncio.gather(
        *(
            subscriptions.batch(
                ACCOUNTS, "PutAccount", [put(f"u{lane}-{n}", "wanted@example.com") for n in range(5)]
            )
            for lane in range(6)
        )
    )
    outcomes = list(itertools.chain.from_iterable(answers))
    assert sum(isinstance(outcome, pb.PutAccountResponse) for outcome in outcomes) == 1
    for outcome in outcomes:
        if isinstance(outcome, ServiceError):
            refused(outcome, Reason.INVALID_ARGUMENT)
    assert await subscriptions.truth.fetchval("SELECT count(*) FROM accounts") == 1


async def test_an_inactive_account_is_shown_but_not_entitled(subscriptions: Subscriptions) -> None:
    await subscriptions.account("ann", status="INACTIVE")
    response = await subscriptions.one(ACCOUNTS, "GetMyAccount", pb.GetMyAccountRequest(), user_id="ann")
    assert response.account.status == pb.Account.INACTIVE
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.entitlements("ann")
    refused(refusal.value, Reason.INVALID_USER_REFERENCE)
    await subscriptions.account("ann")
    assert (await subscriptions.entitlements("ann")).plan_id == "free"


async def test_an_unknown_account_is_not_found_and_an_unknown_caller_is_an_invalid_reference(
    subscriptions: Subscriptions,
) -> None:
    (outcome,) = await subscriptions.batch(ACCOUNTS, "GetAccount", [pb.GetAccountRequest(user_id="nobody")])
    refused(outcome, Reason.NOT_FOUND)
    (outcome,) = await subscriptions.batch(
        ACCOUNTS, "GetMyAccount", [pb.GetMyAccountRequest()], user_id="nobody"
    )
    refused(outcome, Reason.INVALID_USER_REFERENCE)


async def test_plans_are_listed_page_by_page_and_replaced_whole(subscriptions: Subscriptions) -> None:
    await subscriptions.plan("plus", limit=30, monthly=10, features=["coach", "export"])
    await subscriptions.plan("zero", limit=0)
    listed = []
    request = pb.ListPlansRequest(page_size=3)
    for _ in range(5):
        response = await subscriptions.one(PLANS, "ListPlans", request)
        listed += response.plans
        request.page_token = response.next_page_token
        if not request.page_token:
            break
    assert [plan.plan_id for plan in listed] == ["free", "plus", "unlimited", "zero"]
    plus = listed[1]
    assert (plus.daily_test_limit, plus.monthly_credits, list(plus.features)) == (30, 10, ["coach", "export"])
    assert not listed[2].HasField("daily_test_limit")
    assert listed[3].HasField("daily_test_limit")
    await subscriptions.plan("plus", limit=None)
    (_, plus, *_) = (await subscriptions.one(PLANS, "ListPlans", pb.ListPlansRequest())).plans
    assert not plus.HasField("daily_test_limit")
    assert list(plus.features) == []
