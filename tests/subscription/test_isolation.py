"""One bad or locked item of a batch hurts no other."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from chassis.errors import Reason
from chassis.postgres import Connection, Database, OutcomeUnknown, isolation
from homeroom.embedded.provisioning import ServiceDatabase
from protos.subscription.v1 import accounts_pb2, credits_pb2, holds_pb2, licenses_pb2
from tests.subscription.service import CREDITS, HOLDS, LICENSES, PLANS, Subscriptions, placement, refused


@asynccontextmanager
async def locked(database: ServiceDatabase, *user_ids: str) -> AsyncIterator[Connection]:
    """Another transaction holds the locks of these learners."""
    connection = await asyncpg.connect(database.service)
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT 1 FROM accounts WHERE user_id = ANY ($1::text[]) FOR NO KEY UPDATE", list(user_ids)
            )
            yield connection
    finally:
        await connection.close()


async def test_neighbours_of_a_value_that_cannot_be_stored_are_placed(subscriptions: Subscriptions) -> None:
    users = await subscriptions.accounts(64)
    batch = [placement(user_id) for user_id in users]
    batch[37] = placement(users[37], subject="nul \0 byte")
    outcomes = await subscriptions.batch(HOLDS, "PlaceHold", batch)
    refused(outcomes[37], Reason.INVALID_ARGUMENT)
    for place, outcome in enumerate(outcomes):
        if place != 37:
            assert outcome.hold.state == holds_pb2.Hold.OPEN
    assert await subscriptions.tests(users[37]) == (0, 0)
    assert await subscriptions.discrepancies() == []


async def test_neighbours_of_a_constraint_violation_are_placed(subscriptions: Subscriptions) -> None:
    users = await subscriptions.accounts(64)
    await subscriptions.truth.execute(
        "ALTER TABLE holds ADD CONSTRAINT holds_not_poisoned CHECK (subject <> 'poison')"
    )
    batch = [placement(user_id) for user_id in users]
    for place in (0, 31, 63):
        batch[place] = placement(users[place], subject="poison")
    outcomes = await subscriptions.batch(HOLDS, "PlaceHold", batch)
    for place, outcome in enumerate(outcomes):
        if place in {0, 31, 63}:
            refused(outcome, Reason.INVALID_ARGUMENT)
        else:
            assert outcome.hold.state == holds_pb2.Hold.OPEN
    assert await subscriptions.truth.fetchval("SELECT count(*) FROM holds") == 61
    assert await subscriptions.discrepancies() == []


async def test_the_order_of_arrival_survives_the_search_for_a_bad_item(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    same = str(uuid.uuid4())
    batch = [placement(ann, same, subject="first")]
    batch += [placement(ann, subject=f"s-{n}") for n in range(2)]
    batch += [placement(ann, subject="bad \0"), placement(ann, same, subject="last"), placement(ann)]
    outcomes = await subscriptions.batch(HOLDS, "PlaceHold", batch)
    assert outcomes[4].hold == outcomes[0].hold
    assert outcomes[0].hold.subject == "first"
    refused(outcomes[3], Reason.INVALID_ARGUMENT)
    refused(outcomes[5], Reason.DAILY_LIMIT_REACHED)


async def test_neighbours_of_a_locked_learner_are_placed_while_the_lock_is_held(
    subscriptions: Subscriptions, subscription_database: ServiceDatabase
) -> None:
    users = await subscriptions.accounts(64)
    async with locked(subscription_database, users[5]):
        outcomes = await subscriptions.batch(HOLDS, "PlaceHold", [placement(user_id) for user_id in users])
        # The lock is still held: no neighbour has waited for its end.
        error = outcomes.pop(5)
        refused(error, Reason.UNAVAILABLE)
        assert error.retry_after_seconds is not None
        assert all(outcome.hold.state == holds_pb2.Hold.OPEN for outcome in outcomes)
    assert await subscriptions.tests(users[5]) == (0, 0)


async def test_many_locked_learners_do_not_add_up_their_waiting(
    subscriptions: Subscriptions, subscription_database: ServiceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "WAITING_SECONDS_MAX", 0.0)
    users = await subscriptions.accounts(40)
    async with locked(subscription_database, *users[:39]):
        outcomes = await subscriptions.batch(HOLDS, "PlaceHold", [placement(user_id) for user_id in users])
        for outcome in outcomes[:39]:
            refused(outcome, Reason.UNAVAILABLE)
        assert outcomes[39].hold.state == holds_pb2.Hold.OPEN


async def test_a_lock_that_is_given_up_in_time_is_waited_for(
    subscriptions: Subscriptions, subscription_database: ServiceDatabase
) -> None:
    ann = await subscriptions.account("ann")
    async with locked(subscription_database, ann):
        placing = asyncio.create_task(subscriptions.place(ann))
        await until(lambda: waits_for_lock(subscriptions))
    assert (await placing).state == holds_pb2.Hold.OPEN


async def test_neighbours_of_a_locked_learner_get_their_credits_and_levels(
    subscriptions: Subscriptions, subscription_database: ServiceDatabase
) -> None:
    users = await subscriptions.accounts(8)
    async with locked(subscription_database, users[3]):
        grants = [credits_pb2.AdjustCreditsRequest(user_id=u, amount=1, reason="r") for u in users]
        outcomes = await subscriptions.batch(CREDITS, "AdjustCredits", grants, keys=users)
        refused(outcomes.pop(3), Reason.UNAVAILABLE)
        assert all(outcome.balance == 1 for outcome in outcomes)
        levels = [
            licenses_pb2.ApplyLicenseLevelRequest(
                user_id=u,
                specialization="physics",
                level=2,
                max_level=3,
                event_id=str(uuid.uuid4()),
                reason="r",
            )
            for u in users
        ]
        outcomes = await subscriptions.batch(LICENSES, "ApplyLicenseLevel", levels)
        refused(outcomes.pop(3), Reason.UNAVAILABLE)
        assert all(outcome.license.level == 2 for outcome in outcomes)
    # The key of the one who was refused is not used up.
    (outcome,) = await subscriptions.batch(CREDITS, "AdjustCredits", grants[3:4], keys=users[3:4])
    assert outcome.balance == 1


async def test_neighbours_of_a_locked_plan_are_put_while_the_lock_is_held(
    subscriptions: Subscriptions, subscription_database: ServiceDatabase
) -> None:
    connection = await asyncpg.connect(subscription_database.service)
    async with connection.transaction():
        await connection.execute("SELECT 1 FROM plans WHERE plan_id = 'plus' FOR NO KEY UPDATE")
        plans = [
            accounts_pb2.PutPlanRequest(plan_id=plan_id, name="new") for plan_id in ("a", "plus", "free")
        ]
        outcomes = await subscriptions.batch(PLANS, "PutPlan", plans)
        refused(outcomes[1], Reason.UNAVAILABLE)
        assert [outcomes[place].plan.name for place in (0, 2)] == ["new", "new"]
    await connection.close()


async def test_an_unreachable_database_fails_every_item_as_unavailable(subscriptions: Subscriptions) -> None:
    users = await subscriptions.accounts(3)
    await subscriptions.database.close()
    for outcome in await subscriptions.batch(HOLDS, "PlaceHold", [placement(u) for u in users]):
        refused(outcome, Reason.UNAVAILABLE)


class LosingDatabase(Database):
    """Loses the answers to the next commits, which do happen."""

    lose = 0

    async def write(self, *arguments: Any, **keywords: Any) -> Any:
        return self._lost(await super().write(*arguments, **keywords))

    async def execute_write(self, *arguments: Any, **keywords: Any) -> Any:
        return self._lost(await super().execute_write(*arguments, **keywords))

    def _lost(self, result: Any) -> Any:
        if self.lose:
            self.lose -= 1
            raise OutcomeUnknown("the answer was lost")
        return result


@pytest.fixture
async def losing(
    subscription_database: ServiceDatabase, truth: Connection
) -> AsyncIterator[tuple[LosingDatabase, Subscriptions]]:
    database = await LosingDatabase.connect(subscription_database.service, maximum=4)
    assert isinstance(database, LosingDatabase)
    yield database, Subscriptions(database, truth)
    await database.close()


async def test_a_lost_answer_is_found_by_asking_again(
    losing: tuple[LosingDatabase, Subscriptions],
) -> None:
    database, subscriptions = losing
    ann = await subscriptions.account("ann")
    database.lose = 1
    hold = await subscriptions.place(ann)
    assert await subscriptions.tests(ann) == (0, 1)
    database.lose = 1
    assert (await subscriptions.commit(hold)).state == holds_pb2.Hold.COMMITTED
    assert await subscriptions.tests(ann) == (1, 0)
    database.lose = 1
    assert (await subscriptions.adjust(ann, 5, key="k")).balance == 5
    assert (await subscriptions.adjust(ann, 5, key="k")).balance == 5
    database.lose = 1
    assert (await subscriptions.apply_level(ann, "physics", 2)).level == 2
    assert await subscriptions.truth.fetchval("SELECT count(*) FROM license_changes") == 1


async def test_an_outcome_that_stays_unknown_is_told_as_unavailable(
    losing: tuple[LosingDatabase, Subscriptions],
) -> None:
    database, subscriptions = losing
    ann = await subscriptions.account("ann")
    hold = await subscriptions.place(ann)
    database.lose = 2
    request = holds_pb2.CommitHoldRequest(user_id=ann, hold_id=hold.hold_id)
    (outcome,) = await subscriptions.batch(HOLDS, "CommitHold", [request])
    refused(outcome, Reason.UNAVAILABLE)
    assert (await subscriptions.commit(hold)).state == holds_pb2.Hold.COMMITTED
    assert await subscriptions.tests(ann) == (1, 0)


async def waits_for_lock(subscriptions: Subscriptions) -> bool:
    return bool(
        await subscriptions.truth.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
    )


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        await asyncio.sleep(0.005)
