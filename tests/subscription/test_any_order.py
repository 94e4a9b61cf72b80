"""The messages of one start may come in any order, and twice: its unit ends as used or as free."""

from __future__ import annotations

import itertools
import random
import uuid
from typing import Any

from chassis.errors import Reason, ServiceError
from protos.subscription.v1 import holds_pb2
from tests.subscription.service import HOLDS, Subscriptions, placement

State = holds_pb2.Hold.State


def messages(user_id: str, hold_id: str, ending: str) -> list[tuple[str, Any]]:
    """The messages of one session: start it, then complete (commit) or abandon (release) it."""
    end: Any = {"CommitHold": holds_pb2.CommitHoldRequest, "ReleaseHold": holds_pb2.ReleaseHoldRequest}[
        ending
    ]
    return [
        ("PlaceHold", placement(user_id, hold_id, subject="physics#1", credits=2)),
        (ending, end(user_id=user_id, hold_id=hold_id)),
    ]


async def deliver(subscriptions: Subscriptions, method: str, request: Any) -> Reason | None:
    (outcome,) = await subscriptions.batch(HOLDS, method, [request])
    return outcome.reason if isinstance(outcome, ServiceError) else None


async def deliver_at_least_once(
    subscriptions: Subscriptions, order: list[tuple[str, Any]], rounds: int = 3
) -> None:
    """Senders send a message again later when it was refused as not found."""
    waiting = order
    for _ in range(rounds):
        refused = [
            (method, request)
            for method, request in waiting
            if await deliver(subscriptions, method, request) is Reason.NOT_FOUND
        ]
        if not refused:
            return
        waiting = refused
    assert waiting == []


async def end_of(subscriptions: Subscriptions, user_id: str) -> tuple[str, tuple[int, int], int]:
    """The state of the learner's only hold, tests used and held, credits left."""
    states = await subscriptions.truth.fetch("SELECT state FROM holds WHERE user_id = $1", user_id)
    (state,) = [row["state"] for row in states]
    entitlements = await subscriptions.entitlements(user_id)
    assert entitlements.credits.held == 0
    return state, (entitlements.tests.used, entitlements.tests.held), entitlements.credits.balance


USED = ("committed", (1, 0), 3)
FREE = ("released", (0, 0), 5)


async def test_any_permutation_and_duplication_of_one_sessions_messages_ends_legally(
    subscriptions: Subscriptions,
) -> None:
    numbers = itertools.count()
    for ending, end in (("CommitHold", USED), ("ReleaseHold", FREE)):
        for copies in ((1, 1), (2, 1), (1, 2), (2, 2)):
            kinds = [0] * copies[0] + [1] * copies[1]
            for order in sorted(set(itertools.permutations(kinds))):
                ann = await subscriptions.account(f"ann-{next(numbers)}")
                await subscriptions.adjust(ann, 5)
                pair = messages(ann, str(uuid.uuid4()), ending)
                await deliver_at_least_once(subscriptions, [pair[kind] for kind in order])
                assert await end_of(subscriptions, ann) == end, (ending, order)
    assert await subscriptions.discrepancies() == []


async def test_contradicting_messages_still_end_in_one_of_the_two_ways(
    subscriptions: Subscriptions,
) -> None:
    """A janitor releases while the session completes: the first message decides, for good."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choices = random.Random(seed)
    for number in range(40):
        ann = await subscriptions.account(f"ann-{number}")
        await subscriptions.adjust(ann, 5)
        hold_id = str(uuid.uuid4())
        pool = messages(ann, hold_id, "CommitHold") + messages(ann, hold_id, "ReleaseHold")[1:]
        order = pool + choices.choices(pool, k=4)
        choices.shuffle(order)
        for method, request in order:
            await deliver(subscriptions, method, request)
        first = next(method for method, _ in order if method != "CommitHold")
        end = await end_of(subscriptions, ann)
        assert end in (USED, FREE), (seed, order)
        if first == "ReleaseHold":
            assert end == FREE, (seed, order)
        # Nothing that comes later changes it.
        for method, request in pool:
            await deliver(subscriptions, method, request)
        assert await end_of(subscriptions, ann) == end
    assert await subscriptions.discrepancies() == []


async def test_the_messages_of_one_session_in_one_batch_each_are_as_good_as_apart(
    subscriptions: Subscriptions,
) -> None:
    users = await subscriptions.accounts(10)
    holds = {user_id: str(uuid.uuid4()) for user_id in users}
    places = [placement(user_id, holds[user_id]) for user_id in users for _ in range(3)]
    await subscriptions.batch(HOLDS, "PlaceHold", places)
    ends = [holds_pb2.CommitHoldRequest(user_id=u, hold_id=holds[u]) for u in users for _ in range(3)]
    outcomes = await subscriptions.batch(HOLDS, "CommitHold", ends)
    assert {State.Name(outcome.hold.state) for outcome in outcomes} == {"COMMITTED"}
    releases = [holds_pb2.ReleaseHoldRequest(user_id=u, hold_id=holds[u]) for u in users for _ in range(2)]
    for outcome in await subscriptions.batch(HOLDS, "ReleaseHold", releases):
        assert isinstance(outcome, ServiceError)
        assert outcome.reason is Reason.ILLEGAL_TRANSITION
    for user_id in users:
        assert await subscriptions.tests(user_id) == (1, 0)
