"""In a topic that is in order, the events of one user arrive one after the other."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

import pytest

from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database, outbox
from chassis.postgres.outbox import OutboxEvent
from tests.support.outbox import NAMESPACE, NEVER, append, empty, running
from tests.support.waiting import eventually

TOPIC = "levels"


def step(user_id: str, number: int) -> OutboxEvent:
    return OutboxEvent(user_id, outbox.event_id(NAMESPACE, user_id, str(number)), TOPIC, str(number).encode())


class Arrivals:
    """Remembers the steps of each user in the order in which they arrive; refuses some of them first."""

    def __init__(self, *, failures: int = 0, final: frozenset[int] = frozenset()) -> None:
        self.steps: dict[str, list[int]] = defaultdict(list)
        self._failures = failures
        self._final = final

    async def __call__(self, events: list[OutboxEvent]) -> list[ServiceError | None]:
        await asyncio.sleep(0)
        return [self._answer(event) for event in events]

    def _answer(self, event: OutboxEvent) -> ServiceError | None:
        number = int(event.payload)
        if number in self._final:
            return ServiceError(Reason.INVALID_ARGUMENT)
        if self._failures:
            self._failures -= 1
            return ServiceError(Reason.UNAVAILABLE)
        self.steps[event.user_id].append(number)
        return None


async def test_the_events_of_a_user_arrive_in_order_whatever_fails_on_the_way(
    database: Database, admin: Connection
) -> None:
    arrivals = Arrivals(failures=25)
    users = [f"user-{number}" for number in range(10)]
    async with (
        running(database, {TOPIC: arrivals}, in_order={TOPIC}, batch_size=4),
        running(database, {TOPIC: arrivals}, in_order={TOPIC}, batch_size=4),
    ):
        for number in range(8):
            await append(database, *(step(user, number) for user in users))
        await eventually(empty(admin))
    assert arrivals.steps == {user: list(range(8)) for user in users}


async def test_the_order_is_that_of_the_changes_not_of_the_transactions_begins(
    database: Database, admin: Connection
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.execute("SELECT 1")
        began.set()
        await go_on.wait()
        await outbox.append(connection, [step("ann", 2)])

    writing = asyncio.create_task(database.write(slow, deadline=time.monotonic() + 5))
    await began.wait()
    await append(database, step("ann", 1))
    go_on.set()
    await writing
    arrivals = Arrivals()
    async with running(database, {TOPIC: arrivals}, in_order={TOPIC}):
        await eventually(empty(admin))
    assert arrivals.steps == {"ann": [1, 2]}


async def test_an_event_that_is_under_way_keeps_the_later_ones_back(
    database: Database, admin: Connection
) -> None:
    arrivals = Arrivals()
    await append(database, step("ann", 1))
    await append(database, step("ann", 2))
    await admin.execute(
        "UPDATE outbox SET leased_until = now() + interval '1 hour' WHERE event_id = $1",
        step("ann", 1).event_id,
    )
    async with running(database, {TOPIC: arrivals}, in_order={TOPIC}, interval_seconds=NEVER) as relay:
        await append(database, step("bob", 1))
        relay.wake()
        await eventually(lambda: arrivals.steps["bob"])
    assert arrivals.steps == {"bob": [1]}


@pytest.mark.parametrize("final", [frozenset({1}), frozenset({1, 2})])
async def test_an_event_that_is_parked_keeps_nobody_back(
    database: Database, admin: Connection, final: frozenset[int]
) -> None:
    arrivals = Arrivals(final=final)
    for number in (1, 2, 3):
        await append(database, step("ann", number))
    async with running(database, {TOPIC: arrivals}, in_order={TOPIC}):
        await eventually(lambda: admin.fetchval("SELECT count(*) = $1 FROM outbox", len(final)))
    assert arrivals.steps["ann"] == [number for number in (1, 2, 3) if number not in final]
