from __future__ import annotations

import asyncio
import itertools
import uuid

import pytest

from chassis.errors import Reason, ServiceError
from protos.subscription.v1 import holds_pb2
from tests.subscription.service import CREATE_SESSION, HOLDS, Subscriptions, placement, refused

OPEN, COMMITTED, RELEASED = holds_pb2.Hold.OPEN, holds_pb2.Hold.COMMITTED, holds_pb2.Hold.RELEASED


async def test_a_held_test_is_used_once_it_is_committed(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    hold = await subscriptions.place(ann)
    assert hold.state == OPEN
    assert await subscriptions.tests(ann) == (0, 1)
    assert (await subscriptions.commit(hold)).state == COMMITTED
    assert await subscriptions.tests(ann) == (1, 0)


async def test_a_released_test_can_be_taken_again(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    for _ in range(5):
        hold = await subscriptions.place(ann, subject="physics#1")
        assert (await subscriptions.release(hold)).state == RELEASED
    assert await subscriptions.tests(ann) == (0, 0)


async def test_placing_a_hold_again_returns_it_as_it_is(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    hold = await subscriptions.place(ann)
    assert await subscriptions.place(ann, hold.hold_id) == hold
    assert await subscriptions.tests(ann) == (0, 1)
    await subscriptions.commit(hold)
    assert (await subscriptions.place(ann, hold.hold_id)).state == COMMITTED
    assert await subscriptions.tests(ann) == (1, 0)


async def test_the_limit_refuses_the_hold_after_the_last_unit_and_says_why(
    subscriptions: Subscriptions,
) -> None:
    subscriptions.clock.set("2026-03-01T12:00:00+00:00")
    ann = await subscriptions.account("ann")
    first = await subscriptions.place(ann)
    await subscriptions.commit(first)
    await subscriptions.place(ann)
    await subscriptions.place(ann)
    (outcome,) = await subscriptions.batch(HOLDS, "PlaceHold", [placement(ann)])
    assert refused(outcome, Reason.DAILY_LIMIT_REACHED) == {
        "limit": 3,
        "used": 1,
        "held": 2,
        "resetsAt": "2026-03-02T00:00:00Z",
    }
    assert await subscriptions.tests(ann) == (1, 2)


async def test_two_hundred_starts_at_once_with_one_unit_left_take_one(subscriptions: Subscriptions) -> None:
    await subscriptions.plan("single", limit=1)
    ann = await subscriptions.account("ann")
    await subscriptions.subscribe(ann, "single")
    batches = [[placement(ann) for _ in range(20)] for _ in range(10)]
    answers = await asyncio.gather(*(subscriptions.batch(HOLDS, "PlaceHold", batch) for batch in batches))
    outcomes = list(itertools.chain.from_iterable(answers))
    placed = [outcome for outcome in outcomes if not isinstance(outcome, ServiceError)]
    assert len(placed) == 1
    for outcome in outcomes:
        if isinstance(outcome, ServiceError):
            refused(outcome, Reason.DAILY_LIMIT_REACHED)
    assert await subscriptions.tests(ann) == (0, 1)


async def test_fifty_starts_of_one_subject_take_one_unit_even_when_the_limit_is_one(
    subscriptions: Subscriptions,
) -> None:
    await subscriptions.plan("single", limit=1)
    ann = await subscriptions.account("ann")
    await subscriptions.subscribe(ann, "single")
    batches = [[placement(ann, subject="physics#1") for _ in range(10)] for _ in range(5)]
    answers = await asyncio.gather(*(subscriptions.batch(HOLDS, "PlaceHold", batch) for batch in batches))
    outcomes = list(itertools.chain.from_iterable(answers))
    assert [outcome for outcome in outcomes if isinstance(outcome, ServiceError)] == []
    assert sum(outcome.HasField("hold") for outcome in outcomes) == 1
    assert await subscriptions.tests(ann) == (0, 1)


async def test_a_hold_resolves_once_and_the_wrong_pairings_name_the_state(
    subscriptions: Subscriptions,
) -> None:
    ann = await subscriptions.account("ann")
    committed = await subscriptions.place(ann)
    released = await subscriptions.place(ann)
    await subscriptions.commit(committed)
    await subscriptions.release(released)
    assert (await subscriptions.commit(committed)).state == COMMITTED
    assert (await subscriptions.release(released)).state == RELEASED
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.release(committed)
    assert refused(refusal.value, Reason.ILLEGAL_TRANSITION) == {"from": "COMMITTED", "to": "RELEASED"}
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.commit(released)
    assert refused(refusal.value, Reason.ILLEGAL_TRANSITION) == {"from": "RELEASED", "to": "COMMITTED"}
    assert await subscriptions.tests(ann) == (1, 0)


async def test_committing_a_hold_that_was_never_placed_is_not_found(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.commit(placement(ann))
    refused(refusal.value, Reason.NOT_FOUND)


async def test_a_release_before_the_place_refuses_the_late_place(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    late = placement(ann)
    tombstone = await subscriptions.release(late)
    assert (tombstone.state, tombstone.tests, tombstone.credits) == (RELEASED, 0, 0)
    assert (await subscriptions.place(ann, late.hold_id)).state == RELEASED
    assert await subscriptions.tests(ann) == (0, 0)


async def test_unknown_and_inactive_accounts_are_invalid_user_references(
    subscriptions: Subscriptions,
) -> None:
    ann = await subscriptions.account("ann")
    hold = await subscriptions.place(ann)
    await subscriptions.account("ann", status="INACTIVE")
    outcomes = await subscriptions.batch(HOLDS, "PlaceHold", [placement("nobody"), placement(ann)])
    for outcome in outcomes:
        refused(outcome, Reason.INVALID_USER_REFERENCE)
    for user_id in ("nobody", ann):
        with pytest.raises(ServiceError) as refusal:
            await subscriptions.entitlements(user_id)
        refused(refusal.value, Reason.INVALID_USER_REFERENCE)
    # What was started before still ends.
    assert (await subscriptions.commit(hold)).state == COMMITTED


async def test_open_holds_are_listed_oldest_first_page_by_page(subscriptions: Subscriptions) -> None:
    users = await subscriptions.accounts(5)
    placed = []
    for number in range(7):
        subscriptions.clock.set(f"2026-03-01T12:00:0{number}+00:00")
        placed.append((await subscriptions.place(users[number % 5])).hold_id)
    resolved = await subscriptions.place(users[0], method="/another.Service/Method")
    await subscriptions.commit(await subscriptions.place(users[2]))
    subscriptions.clock.set("2026-03-01T12:00:15+00:00")
    listed: list[str] = []
    request = holds_pb2.ListOpenHoldsRequest(method=CREATE_SESSION, older_than_seconds=10, page_size=2)
    for _ in range(10):
        response = await subscriptions.one(HOLDS, "ListOpenHolds", request)
        listed += [hold.hold_id for hold in response.holds]
        request.page_token = response.next_page_token
        if not request.page_token:
            break
    assert listed == placed[:6]
    assert resolved.hold_id not in listed


async def test_the_same_learner_many_times_in_a_batch_is_served_in_order_of_arrival(
    subscriptions: Subscriptions,
) -> None:
    ann = await subscriptions.account("ann")
    bob = await subscriptions.account("bob")
    again = str(uuid.uuid4())
    batch = [
        placement(ann, again),
        placement(bob, subject="same"),
        placement(ann, again),
        placement(bob, subject="same"),
        placement(ann),
        placement(ann),
        placement(ann),
        placement(ann, again),
    ]
    outcomes = await subscriptions.batch(HOLDS, "PlaceHold", batch)
    assert outcomes[0] == outcomes[2] == outcomes[7]
    assert outcomes[1].HasField("hold")
    assert not outcomes[3].HasField("hold")
    assert outcomes[4].hold.state == outcomes[5].hold.state == OPEN
    refused(outcomes[6], Reason.DAILY_LIMIT_REACHED)
    assert await subscriptions.tests(ann) == (0, 3)
    assert await subscriptions.tests(bob) == (0, 1)
