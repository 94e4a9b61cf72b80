from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from chassis.errors import Reason, ServiceError
from protos.subscription.v1 import accounts_pb2 as pb
from subscription_service.domain.subscriptions import SubscriptionStatus, entitles, may_follow
from tests.subscription.service import ACCOUNTS, Subscriptions, placement, refused

S = SubscriptionStatus
SETTABLE = [S.TRIALING, S.ACTIVE, S.PAST_DUE, S.CANCELED]
LEGAL = {
    (S.TRIALING, S.TRIALING), (S.TRIALING, S.ACTIVE), (S.TRIALING, S.PAST_DUE), (S.TRIALING, S.CANCELED),
    (S.ACTIVE, S.TRIALING), (S.ACTIVE, S.ACTIVE), (S.ACTIVE, S.PAST_DUE), (S.ACTIVE, S.CANCELED),
    (S.PAST_DUE, S.ACTIVE), (S.PAST_DUE, S.PAST_DUE), (S.PAST_DUE, S.CANCELED),
    (S.CANCELED, S.ACTIVE), (S.CANCELED, S.CANCELED),
    (S.EXPIRED, S.TRIALING), (S.EXPIRED, S.ACTIVE),
}  # fmt: skip


def request(user_id: str, plan_id: str, status: S = S.ACTIVE) -> pb.SetSubscriptionRequest:
    return pb.SetSubscriptionRequest(user_id=user_id, plan_id=plan_id, status=status.name)


async def lead_to(subscriptions: Subscriptions, user_id: str, status: S) -> None:
    if status is S.EXPIRED:
        await subscriptions.subscribe(user_id, "plus", period_end=datetime.now(UTC) - timedelta(seconds=1))
    else:
        await subscriptions.subscribe(user_id, "plus", status.name)


@pytest.mark.parametrize("old", list(S))
async def test_exactly_the_legal_moves_are_made(subscriptions: Subscriptions, old: S) -> None:
    for new in SETTABLE:
        user_id = await subscriptions.account(f"from-{old}-to-{new}")
        await lead_to(subscriptions, user_id, old)
        (outcome,) = await subscriptions.batch(
            ACCOUNTS, "SetSubscription", [request(user_id, "unlimited", new)], keys=[f"{old}-{new}"]
        )
        if (old, new) in LEGAL:
            assert pb.Subscription.Status.Name(outcome.subscription.status) == new.name
        else:
            assert refused(outcome, Reason.ILLEGAL_TRANSITION) == {"from": old.name, "to": new.name}
        assert may_follow(new, old) == ((old, new) in LEGAL)
    assert await subscriptions.discrepancies() == []


@pytest.mark.parametrize("status", list(S))
async def test_only_an_active_subscription_gives_its_plan(subscriptions: Subscriptions, status: S) -> None:
    ann = await subscriptions.account("ann")
    await lead_to(subscriptions, ann, status)
    entitlements = await subscriptions.entitlements(ann)
    active = status in {S.TRIALING, S.ACTIVE}
    assert entitles(status) == active
    assert (entitlements.plan_id, entitlements.tests.limit) == (("plus", 20) if active else ("free", 3))
    assert pb.Subscription.Status.Name(entitlements.status) == status.name
    outcomes = await subscriptions.batch(
        "homeroom.subscription.v1.HoldService", "PlaceHold", [placement(ann) for _ in range(21)]
    )
    assert sum(not isinstance(outcome, ServiceError) for outcome in outcomes) == (20 if active else 3)


async def test_a_subscription_expires_by_the_clock_alone(subscriptions: Subscriptions) -> None:
    subscriptions.clock.set("2026-03-01T12:00:00+00:00")
    ann = await subscriptions.account("ann")
    end = datetime(2026, 3, 1, 13, tzinfo=UTC)
    await subscriptions.subscribe(ann, "unlimited", period_end=end)
    for _ in range(5):
        await subscriptions.commit(await subscriptions.place(ann))
    subscriptions.clock.set("2026-03-01T12:59:59.999999+00:00")
    assert not (await subscriptions.entitlements(ann)).tests.HasField("limit")
    await subscriptions.place(ann)
    subscriptions.clock.set("2026-03-01T13:00:00+00:00")
    entitlements = await subscriptions.entitlements(ann)
    assert entitlements.status == pb.Subscription.EXPIRED
    assert (entitlements.plan_id, entitlements.tests.limit, entitlements.tests.remaining) == ("free", 3, 0)
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.place(ann)
    assert refused(refusal.value, Reason.DAILY_LIMIT_REACHED)["used"] == 5
    await subscriptions.subscribe(ann, "plus")
    response = await subscriptions.one(
        ACCOUNTS, "ListSubscriptionChanges", pb.ListSubscriptionChangesRequest(user_id=ann)
    )
    history = [
        (change.from_plan_id, change.to_plan_id, pb.Subscription.Status.Name(change.to_status), change.by)
        for change in response.changes
    ]
    assert history == [
        ("unlimited", "plus", "ACTIVE", "admin"),
        ("unlimited", "unlimited", "EXPIRED", "clock"),
        ("free", "unlimited", "ACTIVE", "admin"),
        ("", "free", "ACTIVE", "admin"),
    ]
    assert response.changes[1].at.ToDatetime(UTC) == end
    assert await subscriptions.discrepancies() == []


async def test_the_history_is_read_page_by_page(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    for number in range(7):
        await subscriptions.subscribe(ann, ("plus", "unlimited")[number % 2])
    plans = []
    listing = pb.ListSubscriptionChangesRequest(user_id=ann, page_size=3)
    for _ in range(5):
        response = await subscriptions.one(ACCOUNTS, "ListSubscriptionChanges", listing)
        plans += [change.to_plan_id for change in response.changes]
        listing.page_token = response.next_page_token
        if not listing.page_token:
            break
    assert plans == ["plus", "unlimited", "plus", "unlimited", "plus", "unlimited", "plus", "free"]


async def test_a_change_of_the_plan_holds_from_the_next_request_on(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    for _ in range(3):
        await subscriptions.commit(await subscriptions.place(ann))
    await subscriptions.plan("free", limit=5)
    await subscriptions.place(ann)
    await subscriptions.plan("free", limit=2)
    entitlements = await subscriptions.entitlements(ann)
    assert (entitlements.tests.limit, entitlements.tests.used, entitlements.tests.held) == (2, 3, 1)
    assert entitlements.tests.remaining == 0
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.place(ann)
    assert refused(refusal.value, Reason.DAILY_LIMIT_REACHED)["limit"] == 2


async def test_unknown_plans_and_accounts_are_refused(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    await subscriptions.account("gone", status="INACTIVE")
    outcomes = await subscriptions.batch(
        ACCOUNTS,
        "SetSubscription",
        [request(ann, "gold"), request("nobody", "plus"), request("gone", "plus"), request(ann, "plus")],
        keys=["1", "2", "3", "4"],
    )
    refused(outcomes[0], Reason.INVALID_ARGUMENT)
    assert outcomes[0].violations[0].field == "planId"
    refused(outcomes[1], Reason.INVALID_USER_REFERENCE)
    refused(outcomes[2], Reason.INVALID_USER_REFERENCE)
    assert outcomes[3].subscription.plan_id == "plus"


async def test_one_key_sets_a_subscription_once_however_many_ask(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    orders = [request(ann, "plus")] * 3
    answers = await asyncio.gather(
        *(subscriptions.batch(ACCOUNTS, "SetSubscription", orders, keys=["k"] * 3) for _ in range(8))
    )
    distinct = {outcome.SerializeToString(deterministic=True) for batch in answers for outcome in batch}
    assert len(distinct) == 1
    assert await subscriptions.truth.fetchval("SELECT count(*) FROM subscription_changes") == 2


async def test_a_key_that_was_used_otherwise_is_refused_and_a_refusal_is_not_stored(
    subscriptions: Subscriptions,
) -> None:
    ann = await subscriptions.account("ann")
    bob = await subscriptions.account("bob")
    await subscriptions.one(ACCOUNTS, "SetSubscription", request(ann, "plus"), key="k")
    for other in (request(ann, "unlimited"), request(bob, "plus")):
        (outcome,) = await subscriptions.batch(ACCOUNTS, "SetSubscription", [other], keys=["k"])
        refused(outcome, Reason.IDEMPOTENCY_KEY_REUSED)
    # The same key of another caller is another key.
    response = await subscriptions.one(
        ACCOUNTS, "SetSubscription", request(ann, "unlimited"), user_id="another-admin", key="k"
    )
    assert response.subscription.plan_id == "unlimited"
    (outcome,) = await subscriptions.batch(ACCOUNTS, "SetSubscription", [request(bob, "gold")], keys=["g"])
    refused(outcome, Reason.INVALID_ARGUMENT)
    await subscriptions.plan("gold", limit=None)
    response = await subscriptions.one(ACCOUNTS, "SetSubscription", request(bob, "gold"), key="g")
    assert response.subscription.plan_id == "gold"


async def test_one_key_for_two_orders_in_a_batch_carries_out_the_first(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    orders = [request(ann, "plus"), request(ann, "unlimited"), request(ann, "plus")]
    outcomes = await subscriptions.batch(ACCOUNTS, "SetSubscription", orders, keys=["k"] * 3)
    assert outcomes[0] == outcomes[2]
    assert outcomes[0].subscription.plan_id == "plus"
    refused(outcomes[1], Reason.IDEMPOTENCY_KEY_REUSED)
    # A refusal is every copy's answer, and uses nothing up.
    orders = [request(ann, "gold"), request(ann, "gold"), request(ann, "unlimited")]
    outcomes = await subscriptions.batch(ACCOUNTS, "SetSubscription", orders, keys=["g"] * 3)
    refused(outcomes[0], Reason.INVALID_ARGUMENT)
    refused(outcomes[1], Reason.INVALID_ARGUMENT)
    refused(outcomes[2], Reason.IDEMPOTENCY_KEY_REUSED)
    assert (await subscriptions.entitlements(ann)).plan_id == "plus"
