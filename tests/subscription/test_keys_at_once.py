"""One key has one effect and one answer, also when its requests arrive at the same moment."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Any

import pytest

from chassis.context import Claim
from chassis.errors import Reason, ServiceError
from chassis.postgres import idempotency
from protos.subscription.v1 import accounts_pb2, credits_pb2, licenses_pb2
from tests.subscription.service import ACCOUNTS, CREDITS, LICENSES, Subscriptions, refused

ROUNDS = 40


async def at_once(
    subscriptions: Subscriptions, service: str, method: str, request: Any, *, copies: int, key: str
) -> Any:
    """The one answer of several simultaneous requests with one key, each in a batch of its own."""

    async def ask() -> Any:
        for _ in range(10):
            (outcome,) = await subscriptions.batch(service, method, [request], keys=[key])
            # Behind a lock for too long, as on a starved machine: a client asks again, with the same key.
            if not isinstance(outcome, ServiceError) or outcome.reason is not Reason.UNAVAILABLE:
                break
        return outcome

    answers = await asyncio.gather(*(ask() for _ in range(copies)))
    assert not [answer for answer in answers if isinstance(answer, ServiceError)], answers
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    return answers[0]


def adjustment(user_id: str, amount: int, refund_hold_id: str = "") -> credits_pb2.AdjustCreditsRequest:
    return credits_pb2.AdjustCreditsRequest(
        user_id=user_id, amount=amount, reason="because", refund_hold_id=refund_hold_id
    )


async def test_the_last_credits_taken_back_twice_at_once_are_taken_once(
    subscriptions: Subscriptions,
) -> None:
    for user_id in await subscriptions.accounts(ROUNDS):
        await subscriptions.adjust(user_id, 10)
        take = adjustment(user_id, -10)
        answer = await at_once(subscriptions, CREDITS, "AdjustCredits", take, copies=2, key=f"k-{user_id}")
        assert answer.balance == 0
    assert await subscriptions.discrepancies() == []


async def test_a_grant_asked_for_three_times_at_once_comes_once(subscriptions: Subscriptions) -> None:
    for user_id in await subscriptions.accounts(ROUNDS):
        grant = adjustment(user_id, 5)
        answer = await at_once(subscriptions, CREDITS, "AdjustCredits", grant, copies=3, key=f"k-{user_id}")
        assert answer.balance == 5
        assert (await subscriptions.entitlements(user_id)).credits.balance == 5


async def test_a_refund_asked_for_three_times_at_once_comes_once(subscriptions: Subscriptions) -> None:
    for user_id in await subscriptions.accounts(ROUNDS):
        await subscriptions.adjust(user_id, 5)
        hold = await subscriptions.commit(await subscriptions.place(user_id, tests=0, credits=5))
        refund = adjustment(user_id, 5, hold.hold_id)
        answer = await at_once(subscriptions, CREDITS, "AdjustCredits", refund, copies=3, key=f"k-{user_id}")
        assert answer.balance == 5
        assert (await subscriptions.entitlements(user_id)).credits.balance == 5
    assert await subscriptions.discrepancies() == []


async def test_a_license_advanced_three_times_at_once_advances_once(subscriptions: Subscriptions) -> None:
    for user_id in await subscriptions.accounts(ROUNDS):
        await subscriptions.apply_level(user_id, "physics", 1)
        advance = licenses_pb2.AdvanceLicenseRequest(
            user_id=user_id, specialization="physics", to_level=3, reason="r"
        )
        answer = await at_once(
            subscriptions, LICENSES, "AdvanceLicense", advance, copies=3, key=f"k-{user_id}"
        )
        assert answer.license.level == 3
    changes = await subscriptions.truth.fetchval("SELECT count(*) FROM license_changes")
    assert changes == 2 * ROUNDS


async def test_a_subscription_set_three_times_at_once_is_set_once(subscriptions: Subscriptions) -> None:
    for user_id in await subscriptions.accounts(ROUNDS):
        order = accounts_pb2.SetSubscriptionRequest(
            user_id=user_id, plan_id="plus", status="CANCELED", period_end={"seconds": 1_000_000_000}
        )
        answer = await at_once(
            subscriptions, ACCOUNTS, "SetSubscription", order, copies=3, key=f"k-{user_id}"
        )
        assert answer.subscription.plan_id == "plus"
    changes = await subscriptions.truth.fetchval("SELECT count(*) FROM subscription_changes")
    assert changes == 2 * ROUNDS


async def test_a_key_whose_races_are_all_lost_costs_no_neighbour(
    subscriptions: Subscriptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = await subscriptions.accounts(8)
    raced = "raced"
    orders = [accounts_pb2.SetSubscriptionRequest(user_id=u, plan_id="plus", status="ACTIVE") for u in users]
    await subscriptions.one(ACCOUNTS, "SetSubscription", orders[3], key=raced)
    find = idempotency.find

    async def find_too_early(connection: Any, claims: Iterable[Claim]) -> Any:
        """Another request claims the key after each look."""
        return await find(connection, [claim for claim in claims if claim.key != raced])

    monkeypatch.setattr(idempotency, "find", find_too_early)
    keys = [raced if user_id == users[3] else str(uuid.uuid4()) for user_id in users]
    outcomes = await subscriptions.batch(ACCOUNTS, "SetSubscription", orders, keys=keys)
    refused(outcomes.pop(3), Reason.UNAVAILABLE)
    assert {outcome.subscription.plan_id for outcome in outcomes} == {"plus"}
    monkeypatch.undo()
    assert await subscriptions.one(ACCOUNTS, "SetSubscription", orders[3], key=raced)
