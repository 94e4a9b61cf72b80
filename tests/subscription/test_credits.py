from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from protos.subscription.v1 import accounts_pb2
from protos.subscription.v1 import credits_pb2 as pb
from tests.subscription.service import ACCOUNTS, CREDITS, HOLDS, PLANS, Subscriptions, placement, refused

NOON = "2026-03-01T12:00:00+00:00"
KIND = pb.CreditEntry.Kind


async def balance(subscriptions: Subscriptions, user_id: str) -> tuple[int, int, int]:
    credits_ = (await subscriptions.entitlements(user_id)).credits
    return credits_.balance, credits_.held, credits_.available


async def ledger(
    subscriptions: Subscriptions, user_id: str, page_size: int = 500
) -> list[tuple[str, int, int]]:
    """Kind, amount and balance after of each entry, oldest first."""
    entries: list[Any] = []
    request = pb.ListCreditEntriesRequest(user_id=user_id, page_size=page_size)
    for _ in range(100):
        response = await subscriptions.one(CREDITS, "ListCreditEntries", request)
        entries += response.entries
        request.page_token = response.next_page_token
        if not request.page_token:
            break
    return [(KIND.Name(entry.kind), entry.amount, entry.balance_after) for entry in reversed(entries)]


async def test_credits_are_granted_held_spent_and_taken_back(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    answer = await subscriptions.adjust(ann, 10)
    assert (answer.balance, answer.entry.amount, answer.entry.kind) == (10, 10, pb.CreditEntry.GRANT)
    hold = await subscriptions.place(ann, tests=0, credits=4)
    assert await balance(subscriptions, ann) == (10, 4, 6)
    await subscriptions.commit(hold)
    assert await balance(subscriptions, ann) == (6, 0, 6)
    await subscriptions.release(await subscriptions.place(ann, credits=6))
    assert await balance(subscriptions, ann) == (6, 0, 6)
    answer = await subscriptions.adjust(ann, -5)
    assert (answer.balance, answer.entry.kind) == (1, pb.CreditEntry.ADJUSTMENT)
    assert await ledger(subscriptions, ann, page_size=1) == [
        ("GRANT", 10, 10),
        ("HOLD_COMMITTED", -4, 6),
        ("ADJUSTMENT", -5, 1),
    ]
    assert await subscriptions.discrepancies() == []


async def test_too_few_credits_are_refused_with_the_figures(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 10)
    await subscriptions.place(ann, credits=7)
    outcomes = await subscriptions.batch(HOLDS, "PlaceHold", [placement(ann, credits=4)])
    assert refused(outcomes[0], Reason.INSUFFICIENT_CREDITS) == {"balance": 10, "held": 7, "needed": 4}
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.adjust(ann, -4)
    assert refused(refusal.value, Reason.INSUFFICIENT_CREDITS)["needed"] == 4
    # All or nothing: the test unit of the refused hold was not taken either.
    assert await subscriptions.tests(ann) == (0, 1)
    assert await subscriptions.discrepancies() == []


async def test_a_hold_of_both_takes_no_credits_when_the_daily_limit_is_reached(
    subscriptions: Subscriptions,
) -> None:
    await subscriptions.plan("free", limit=1)
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 10)
    await subscriptions.place(ann, credits=3)
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.place(ann, credits=3)
    refused(refusal.value, Reason.DAILY_LIMIT_REACHED)
    assert await balance(subscriptions, ann) == (10, 3, 7)


async def test_grants_are_spent_soonest_expiring_first(subscriptions: Subscriptions) -> None:
    now = subscriptions.clock.set(NOON)
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 5)
    await subscriptions.adjust(ann, 5, expires_at=now + timedelta(days=2))
    await subscriptions.adjust(ann, 5, expires_at=now + timedelta(days=1))
    await subscriptions.commit(await subscriptions.place(ann, credits=7))
    # The whole of tomorrow's and two of the day after's were spent: three of those lapse, five stay for good.
    subscriptions.clock.moment = now + timedelta(days=2)
    assert await balance(subscriptions, ann) == (5, 0, 5)
    assert await ledger(subscriptions, ann) == [
        ("GRANT", 5, 5),
        ("GRANT", 5, 10),
        ("GRANT", 5, 15),
        ("HOLD_COMMITTED", -7, 8),
        ("EXPIRY", -3, 5),
    ]
    assert await subscriptions.discrepancies() == []


async def test_credits_that_are_held_do_not_lapse_until_they_are_given_back(
    subscriptions: Subscriptions,
) -> None:
    now = subscriptions.clock.set(NOON)
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 6, expires_at=now + timedelta(hours=1))
    spent = await subscriptions.place(ann, credits=2)
    returned = await subscriptions.place(ann, credits=3)
    subscriptions.clock.moment = now + timedelta(hours=2)
    assert await balance(subscriptions, ann) == (5, 5, 0)
    await subscriptions.commit(spent)
    assert await balance(subscriptions, ann) == (3, 3, 0)
    # What was not held has left the ledger before the rest follows it.
    assert (await ledger(subscriptions, ann))[-1] == ("EXPIRY", -1, 3)
    await subscriptions.release(returned)
    assert await balance(subscriptions, ann) == (0, 0, 0)
    assert (await ledger(subscriptions, ann))[-1] == ("EXPIRY", -3, 0)
    assert (await subscriptions.adjust(ann, 2)).balance == 2
    assert await subscriptions.discrepancies() == []


async def test_a_grant_that_has_expired_already_is_refused(subscriptions: Subscriptions) -> None:
    now = subscriptions.clock.set(NOON)
    ann = await subscriptions.account("ann")
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.adjust(ann, 5, expires_at=now)
    refused(refusal.value, Reason.INVALID_ARGUMENT)
    assert refusal.value.violations[0].field == "expiresAt"


async def test_monthly_credits_come_once_per_month_and_lapse_with_it(subscriptions: Subscriptions) -> None:
    now = subscriptions.clock.set("2026-02-27T12:00:00+00:00")
    await subscriptions.plan("plus", limit=20, monthly=10)
    ann = await subscriptions.account("ann")
    await subscriptions.subscribe(ann, "plus")
    assert await balance(subscriptions, ann) == (10, 0, 10)
    for _ in range(3):
        await subscriptions.commit(await subscriptions.place(ann, tests=0, credits=2))
    assert await balance(subscriptions, ann) == (4, 0, 4)
    subscriptions.clock.moment = now + timedelta(days=2)  # March
    assert await balance(subscriptions, ann) == (10, 0, 10)
    subscriptions.clock.moment = now + timedelta(days=100)  # June: April and May went by unseen
    assert await balance(subscriptions, ann) == (10, 0, 10)
    assert await ledger(subscriptions, ann) == [
        ("GRANT", 10, 10),
        ("HOLD_COMMITTED", -2, 8),
        ("HOLD_COMMITTED", -2, 6),
        ("HOLD_COMMITTED", -2, 4),
        ("EXPIRY", -4, 0),
        ("GRANT", 10, 10),
    ]
    assert await subscriptions.discrepancies() == []


@pytest.mark.parametrize("february", [True, False], ids=["a grant in each month", "a first grant in March"])
async def test_a_clock_that_steps_back_into_the_month_before_grants_nothing_twice(
    subscriptions: Subscriptions, february: bool
) -> None:
    """The server that takes over from another one may be a moment behind it."""
    await subscriptions.plan("plus", limit=20, monthly=10)
    ann = await subscriptions.account("ann")
    subscriptions.clock.set("2026-02-27T12:00:00+00:00")
    await subscriptions.subscribe(ann, "plus")
    if february:
        await subscriptions.commit(await subscriptions.place(ann, tests=0, credits=2))
    spent = 0
    for moment in ("2026-03-01T00:00:00+00:00", "2026-02-28T23:59:59+00:00", "2026-03-01T00:00:01+00:00"):
        subscriptions.clock.set(moment)
        assert await balance(subscriptions, ann) == (10 - spent, 0, 10 - spent)
        await subscriptions.commit(await subscriptions.place(ann, tests=0, credits=2))
        await subscriptions.adjust(ann, -1)
        spent += 3
    assert await balance(subscriptions, ann) == (1, 0, 1)
    assert await subscriptions.discrepancies() == []


async def test_held_credits_that_come_back_after_the_rest_has_lapsed_lapse_whatever_the_clock_says(
    subscriptions: Subscriptions,
) -> None:
    """A grant has one entry for what lapses by itself."""
    now = subscriptions.clock.set(NOON)
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 10, expires_at=now + timedelta(seconds=2))
    hold = await subscriptions.place(ann, credits=4)
    subscriptions.clock.moment = now + timedelta(seconds=3)
    await subscriptions.adjust(ann, 1)
    subscriptions.clock.moment = now + timedelta(seconds=1)
    await subscriptions.release(hold)
    subscriptions.clock.moment = now + timedelta(seconds=4)
    await subscriptions.adjust(ann, 1)
    assert await balance(subscriptions, ann) == (2, 0, 2)
    assert await ledger(subscriptions, ann) == [
        ("GRANT", 10, 10),
        ("EXPIRY", -6, 4),
        ("GRANT", 1, 5),
        ("EXPIRY", -4, 1),
        ("GRANT", 1, 2),
    ]
    assert await subscriptions.discrepancies() == []


async def test_plans_that_change_within_a_month_give_the_most_of_them_once(
    subscriptions: Subscriptions,
) -> None:
    subscriptions.clock.set(NOON)
    await subscriptions.plan("plus", limit=20, monthly=10)
    await subscriptions.plan("unlimited", limit=None, monthly=25)
    ann = await subscriptions.account("ann")
    for plan_id, expected in (("plus", 10), ("unlimited", 25), ("plus", 25), ("unlimited", 25), ("free", 25)):
        await subscriptions.subscribe(ann, plan_id)
        await ledger(subscriptions, ann)
        assert await balance(subscriptions, ann) == (expected, 0, expected)
    assert await ledger(subscriptions, ann) == [("GRANT", 10, 10), ("GRANT", 15, 25)]


async def test_the_entitlements_and_the_ledger_agree_at_every_moment(subscriptions: Subscriptions) -> None:
    now = subscriptions.clock.set("2026-03-31T23:59:59.999+00:00")
    await subscriptions.plan("free", limit=3, monthly=7)
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 5, expires_at=now + timedelta(milliseconds=1))
    for seconds in (0.0, 0.001, 1.0, 40 * 86400.0):
        subscriptions.clock.moment = now + timedelta(seconds=seconds)
        shown = await balance(subscriptions, ann)
        entries = await ledger(subscriptions, ann)
        assert sum(amount for _, amount, _ in entries) == entries[-1][2] == shown[0]
        assert await balance(subscriptions, ann) == shown
    assert await subscriptions.discrepancies() == []


async def test_one_key_grants_once_however_many_ask(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    request = pb.AdjustCreditsRequest(user_id=ann, amount=5, reason="welcome")
    answers = await asyncio.gather(
        *(subscriptions.batch(CREDITS, "AdjustCredits", [request] * 4, keys=["k"] * 4) for _ in range(8))
    )
    assert {outcome.SerializeToString() for batch in answers for outcome in batch} == {
        answers[0][0].SerializeToString()
    }
    assert await ledger(subscriptions, ann) == [("GRANT", 5, 5)]


async def test_two_orders_for_one_learner_in_a_batch_come_one_after_the_other(
    subscriptions: Subscriptions,
) -> None:
    ann = await subscriptions.account("ann")
    orders = [pb.AdjustCreditsRequest(user_id=ann, amount=a, reason="r") for a in (-1, 3, -2, -2, 4)]
    outcomes = await subscriptions.batch(CREDITS, "AdjustCredits", orders, keys=[*"abcde"])
    refused(outcomes[0], Reason.INSUFFICIENT_CREDITS)
    refused(outcomes[3], Reason.INSUFFICIENT_CREDITS)
    assert [outcomes[i].balance for i in (1, 2, 4)] == [3, 1, 5]


async def test_a_committed_hold_is_refunded_once_and_not_beyond_its_cost(
    subscriptions: Subscriptions,
) -> None:
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 10)
    spent = await subscriptions.place(ann, tests=0, credits=6)

    def refund(amount: int, hold_id: str) -> pb.AdjustCreditsRequest:
        return pb.AdjustCreditsRequest(user_id=ann, amount=amount, reason="sorry", refund_hold_id=hold_id)

    (early,) = await subscriptions.batch(CREDITS, "AdjustCredits", [refund(6, spent.hold_id)], keys=["early"])
    refused(early, Reason.INVALID_ARGUMENT)
    await subscriptions.commit(spent)
    outcomes = await subscriptions.batch(
        CREDITS,
        "AdjustCredits",
        [
            refund(7, spent.hold_id),
            refund(5, str(uuid.uuid4())),
            refund(5, spent.hold_id),
            refund(1, spent.hold_id),
        ],
        keys=[*"abcd"],
    )
    (later,) = await subscriptions.batch(CREDITS, "AdjustCredits", [refund(1, spent.hold_id)], keys=["e"])
    for refused_one in (outcomes[0], outcomes[1], outcomes[3], later):
        refused(refused_one, Reason.INVALID_ARGUMENT)
        assert refused_one.violations[0].field == "refundHoldId"
    assert outcomes[2].entry.kind == pb.CreditEntry.REFUND
    assert await balance(subscriptions, ann) == (9, 0, 9)
    assert await subscriptions.discrepancies() == []


async def test_an_order_whose_key_was_forgotten_is_not_carried_out_again_and_costs_no_neighbour(
    subscriptions: Subscriptions,
) -> None:
    users = await subscriptions.accounts(4)
    orders = [pb.AdjustCreditsRequest(user_id=user_id, amount=5, reason="r") for user_id in users]
    await subscriptions.batch(CREDITS, "AdjustCredits", orders[2:3], keys=["k"])
    await subscriptions.truth.execute("DELETE FROM idempotency_keys")
    outcomes = await subscriptions.batch(CREDITS, "AdjustCredits", orders, keys=[*"abkd"])
    refused(outcomes.pop(2), Reason.IDEMPOTENCY_KEY_REUSED)
    assert [outcome.balance for outcome in outcomes] == [5, 5, 5]
    assert await balance(subscriptions, users[2]) == (5, 0, 5)


async def test_a_balance_too_large_for_the_contract_is_refused(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 1_000_000)
    await subscriptions.truth.execute(
        "WITH e AS (UPDATE credit_balances SET balance = 1999999999 RETURNING 1) "
        "UPDATE credit_grants SET remaining = 1999999999"
    )
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.adjust(ann, 2)
    refused(refusal.value, Reason.INVALID_ARGUMENT)
    assert (await subscriptions.adjust(ann, 1)).balance == 2_000_000_000


@pytest.mark.parametrize("room", [0, 1, 6, 7, 8])
async def test_monthly_credits_fill_a_balance_up_to_its_bound_and_the_rest_comes_when_there_is_room(
    subscriptions: Subscriptions, room: int
) -> None:
    now = subscriptions.clock.set(NOON)
    ann = await subscriptions.account("ann")
    bob = await subscriptions.account("bob")
    await subscriptions.adjust(ann, 1_000_000)
    full = 2_000_000_000 - room
    for statement in (
        "UPDATE credit_balances SET balance = $1 WHERE user_id = 'ann'",
        "UPDATE credit_grants SET remaining = $1 WHERE user_id = 'ann'",
        "UPDATE credit_entries SET amount = $1, balance_after = $1 WHERE user_id = 'ann'",
    ):
        await subscriptions.truth.execute(statement, full)
    await subscriptions.plan("free", limit=3, monthly=7)
    # Entitlements show what the next use finds, in a batch with a stranger.
    asked = [accounts_pb2.GetEntitlementsRequest(user_id=user_id) for user_id in (ann, bob)]
    shown = await subscriptions.batch(ACCOUNTS, "GetEntitlements", asked)
    first = min(room, 7)
    assert [outcome.entitlements.credits.balance for outcome in shown] == [full + first, 7]
    assert (await subscriptions.adjust(ann, -10)).balance == full + first - 10
    assert await balance(subscriptions, ann) == (full - 10 + 7, 0, full - 10 + 7)
    entries = await ledger(subscriptions, ann)
    assert sum(amount for _, amount, _ in entries) == entries[-1][2] == full - 10 + 7
    assert await subscriptions.discrepancies() == []
    # All of the month's credits lapse with it.
    subscriptions.clock.moment = now + timedelta(days=31)
    after = (await subscriptions.adjust(ann, -1)).balance
    assert after == (await balance(subscriptions, ann))[0]
    assert await subscriptions.discrepancies() == []


async def test_the_largest_monthly_credits_cost_no_neighbour(subscriptions: Subscriptions) -> None:
    users = await subscriptions.accounts(4)
    await subscriptions.plan("plus", limit=None, monthly=1_000_000)
    for user_id in users[:2]:
        await subscriptions.subscribe(user_id, "plus")
    asked = [accounts_pb2.GetEntitlementsRequest(user_id=user_id) for user_id in users]
    shown = await subscriptions.batch(ACCOUNTS, "GetEntitlements", asked)
    balances = [outcome.entitlements.credits.balance for outcome in shown]
    assert balances == [1_000_000, 1_000_000, 0, 0]
    outcomes = await subscriptions.batch(
        PLANS,
        "PutPlan",
        [
            accounts_pb2.PutPlanRequest(plan_id=f"p-{amount}", name="p", monthly_credits=amount)
            for amount in (5, 2_147_483_647, 6)
        ],
    )
    refused(outcomes[1], Reason.INVALID_ARGUMENT)
    assert [outcomes[place].plan.monthly_credits for place in (0, 2)] == [5, 6]


async def test_the_ledger_of_an_inactive_account_is_for_admins_only(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 3)
    await subscriptions.account("ann", status="INACTIVE")
    assert await ledger(subscriptions, ann) == [("GRANT", 3, 3)]
    mine = pb.ListMyCreditEntriesRequest()
    (outcome,) = await subscriptions.batch(CREDITS, "ListMyCreditEntries", [mine], user_id=ann)
    refused(outcome, Reason.INVALID_USER_REFERENCE)
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.adjust(ann, 3)
    refused(refusal.value, Reason.INVALID_USER_REFERENCE)
    with pytest.raises(ServiceError) as refusal:
        await ledger(subscriptions, "nobody")
    refused(refusal.value, Reason.INVALID_USER_REFERENCE)


async def test_my_ledger_is_the_same_as_the_admins_view(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    await subscriptions.adjust(ann, 3, expires_at=datetime.now(UTC) + timedelta(days=1))
    mine = await subscriptions.one(
        CREDITS, "ListMyCreditEntries", pb.ListMyCreditEntriesRequest(), user_id=ann
    )
    theirs = await subscriptions.one(CREDITS, "ListCreditEntries", pb.ListCreditEntriesRequest(user_id=ann))
    assert list(mine.entries) == list(theirs.entries)
    assert mine.entries[0].HasField("expires_at")
