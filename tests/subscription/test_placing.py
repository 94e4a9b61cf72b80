"""A placement that was decided without a lock is written only if nothing has changed since."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.errors import Reason
from chassis.postgres import Connection, Database
from homeroom.embedded.provisioning import ServiceDatabase
from protos.subscription.v1 import accounts_pb2, holds_pb2
from tests.subscription.service import ACCOUNTS, CREATE_SESSION, HOLDS, Subscriptions, placement, refused


class Interrupted(Database):
    """Lets something happen between the read and the write of a placement."""

    meanwhile: Callable[[], Awaitable[object]] | None = None
    transactions = 0

    async def read(self, *arguments: Any, **keywords: Any) -> Any:
        result = await super().read(*arguments, **keywords)
        if keywords["name"] == "read_for_placing" and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return result

    async def write(self, *arguments: Any, **keywords: Any) -> Any:
        self.transactions += 1
        return await super().write(*arguments, **keywords)


@pytest.fixture
async def interrupted(subscription_database: ServiceDatabase) -> AsyncIterator[Interrupted]:
    database = await Interrupted.connect(subscription_database.service, maximum=4)
    assert isinstance(database, Interrupted)
    yield database
    await database.close()


@pytest.fixture
def ours(interrupted: Interrupted, truth: Connection) -> Subscriptions:
    return Subscriptions(interrupted, truth)


async def test_simple_placements_need_no_transaction_of_several_statements(
    interrupted: Interrupted, ours: Subscriptions
) -> None:
    users = await ours.accounts(3)
    interrupted.transactions = 0
    outcomes = await ours.batch(HOLDS, "PlaceHold", [placement(user_id) for user_id in users])
    assert [outcome.hold.state for outcome in outcomes] == [holds_pb2.Hold.OPEN] * 3
    assert interrupted.transactions == 0
    assert await ours.discrepancies() == []


async def test_a_unit_that_was_taken_meanwhile_is_not_taken_twice(
    interrupted: Interrupted, ours: Subscriptions, subscriptions: Subscriptions
) -> None:
    await subscriptions.plan("one", limit=1)
    ann, ben = await subscriptions.accounts(2)
    await subscriptions.subscribe(ann, "one")
    interrupted.meanwhile = lambda: subscriptions.place(ann)
    outcomes = await ours.batch(HOLDS, "PlaceHold", [placement(ann), placement(ben)])
    refused(outcomes[0], Reason.DAILY_LIMIT_REACHED)
    assert outcomes[1].hold.state == holds_pb2.Hold.OPEN
    assert await subscriptions.tests(ann) == (0, 1)
    assert await subscriptions.tests(ben) == (0, 1)
    assert await subscriptions.discrepancies() == []


async def test_a_day_that_was_begun_meanwhile_is_counted_on(
    interrupted: Interrupted, ours: Subscriptions, subscriptions: Subscriptions
) -> None:
    ann = await subscriptions.account("ann")

    async def take_and_use_and_give_back() -> None:
        await subscriptions.commit(await subscriptions.place(ann))
        await subscriptions.release(await subscriptions.place(ann))

    interrupted.meanwhile = take_and_use_and_give_back
    assert (await ours.place(ann)).state == holds_pb2.Hold.OPEN
    assert await subscriptions.tests(ann) == (1, 1)
    assert await subscriptions.discrepancies() == []


async def test_the_same_hold_placed_and_released_meanwhile_stays_released(
    interrupted: Interrupted, ours: Subscriptions, subscriptions: Subscriptions
) -> None:
    ann, ben = await subscriptions.accounts(2)
    request = placement(ann)

    async def take_and_give_back() -> None:
        (outcome,) = await subscriptions.batch(HOLDS, "PlaceHold", [request])
        await subscriptions.release(outcome.hold)

    interrupted.meanwhile = take_and_give_back
    outcomes = await ours.batch(HOLDS, "PlaceHold", [request, placement(ben)])
    assert [outcome.hold.state for outcome in outcomes] == [holds_pb2.Hold.RELEASED, holds_pb2.Hold.OPEN]
    assert await subscriptions.tests(ann) == (0, 0)
    assert await subscriptions.tests(ben) == (0, 1)
    assert await subscriptions.discrepancies() == []


@pytest.mark.parametrize("tests", [0, 1])
async def test_a_subject_that_was_taken_meanwhile_is_taken(
    interrupted: Interrupted, ours: Subscriptions, subscriptions: Subscriptions, tests: int
) -> None:
    ann = await subscriptions.account("ann")
    interrupted.meanwhile = lambda: subscriptions.place(ann, subject="physics", tests=tests)
    assert await ours.place(ann, subject="physics", tests=tests) is None
    assert await subscriptions.tests(ann) == (0, tests)
    assert await subscriptions.discrepancies() == []


async def test_an_account_that_was_closed_meanwhile_takes_nothing(
    interrupted: Interrupted, ours: Subscriptions, subscriptions: Subscriptions
) -> None:
    ann = await subscriptions.account("ann")
    closed = accounts_pb2.PutAccountRequest(user_id=ann, email="ann@example.com", status="INACTIVE")
    interrupted.meanwhile = lambda: subscriptions.one(ACCOUNTS, "PutAccount", closed)
    (outcome,) = await ours.batch(HOLDS, "PlaceHold", [placement(ann)])
    refused(outcome, Reason.INVALID_USER_REFERENCE)
    assert await subscriptions.truth.fetchval("SELECT count(*) FROM holds") == 0


async def test_a_limit_that_was_lowered_meanwhile_counts(
    interrupted: Interrupted, ours: Subscriptions, subscriptions: Subscriptions
) -> None:
    await subscriptions.plan("none", limit=0)
    ann, ben = await subscriptions.accounts(2)
    interrupted.meanwhile = lambda: subscriptions.subscribe(ann, "none")
    outcomes = await ours.batch(HOLDS, "PlaceHold", [placement(ann), placement(ben)])
    refused(outcomes[0], Reason.DAILY_LIMIT_REACHED)
    assert outcomes[1].hold.state == holds_pb2.Hold.OPEN


async def test_a_day_that_ends_meanwhile_is_not_counted_on(
    interrupted: Interrupted, ours: Subscriptions
) -> None:
    ann = await ours.account("ann")
    ours.clock.set("2026-03-01T23:59:59Z")

    async def midnight() -> None:
        ours.clock.set("2026-03-02T00:00:00Z")

    interrupted.meanwhile = midnight
    assert (await ours.place(ann)).day == "2026-03-02"
    assert await ours.tests(ann) == (0, 1)


async def test_one_hold_placed_by_many_at_once_takes_one_unit(subscriptions: Subscriptions) -> None:
    await subscriptions.plan("three", limit=3)
    ann = await subscriptions.account("ann")
    await subscriptions.subscribe(ann, "three")
    requests = [placement(ann) for _ in range(6)]
    outcomes = await asyncio.gather(
        *(subscriptions.batch(HOLDS, "PlaceHold", [requests[n % 6]]) for n in range(48))
    )
    assert await subscriptions.tests(ann) == (0, 3)
    for number, request in enumerate(requests):
        told = {str(outcome) for (outcome,) in outcomes[number::6] if hasattr(outcome, "hold")}
        stored = await subscriptions.truth.fetchval(
            "SELECT count(*) FROM holds WHERE hold_id = $1::uuid", request.hold_id
        )
        assert len(told) == stored
    assert await subscriptions.discrepancies() == []


async def test_a_hold_is_placed_at_the_time_of_its_writing_and_not_of_an_earlier_read(
    interrupted: Interrupted, ours: Subscriptions
) -> None:
    """A reader of old holds continues behind the last one that it saw: no older hold may appear later."""
    users = await ours.accounts(2)
    between: list[datetime] = []

    async def look_at_the_clock() -> None:
        between.append(await ours.truth.fetchval("SELECT clock_timestamp()"))

    for wanted in ([placement(users[0])], [placement(users[1]), placement(users[1])]):
        interrupted.meanwhile = look_at_the_clock
        for outcome in await ours.batch(HOLDS, "PlaceHold", wanted):
            placed_at = outcome.hold.placed_at.ToDatetime(UTC)
            assert placed_at > between[-1]
            hold_id = outcome.hold.hold_id
            stored = "SELECT placed_at FROM holds WHERE hold_id = $1::uuid"
            assert await ours.truth.fetchval(stored, hold_id) == placed_at
    assert len(between) == 2


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside another placement of the learner"])
async def test_a_taken_subject_is_answered_with_the_hold_that_has_it(
    interrupted: Interrupted, ours: Subscriptions, subscriptions: Subscriptions, others: int
) -> None:
    ann = await subscriptions.account("ann")
    known = await subscriptions.place(ann, subject="physics", idempotency_key="theirs")
    rivals: list[Any] = [known]

    async def place_history() -> None:
        rivals.append(await subscriptions.place(ann, subject="history"))

    for subject in ("physics", "history"):
        interrupted.meanwhile = place_history if subject == "history" else None
        wanted = [placement(ann, subject=subject), *(placement(ann, tests=0) for _ in range(others))]
        outcomes = await ours.batch(HOLDS, "PlaceHold", wanted)
        assert not outcomes[0].HasField("hold")
        assert outcomes[0].rival == rivals[-1]
        assert all(outcome.HasField("hold") and not outcome.HasField("rival") for outcome in outcomes[1:])
    assert (known.idempotency_key, known.method) == ("theirs", CREATE_SESSION)


async def test_the_rival_may_be_an_earlier_placement_of_the_same_batch(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    batch = [placement(ann, subject="physics"), placement(ann, subject="physics")]
    first, second = await subscriptions.batch(HOLDS, "PlaceHold", batch)
    assert second.rival == first.hold
    assert (await subscriptions.release(first.hold)).state == holds_pb2.Hold.RELEASED
    (outcome,) = await subscriptions.batch(HOLDS, "PlaceHold", batch[1:])
    assert outcome.hold.state == holds_pb2.Hold.OPEN
