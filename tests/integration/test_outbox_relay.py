"""Committed events arrive soon and independently, with any number of relays."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database, outbox
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres.relay import Relay
from tests.support.outbox import NEVER, Receiver, append, background_of, empty, event, running
from tests.support.waiting import eventually


async def test_a_committed_event_arrives_as_it_was_and_leaves_the_outbox(
    database: Database, admin: Connection
) -> None:
    arrived: list[OutboxEvent] = []

    async def deliver(events: list[OutboxEvent]) -> list[None]:
        arrived.extend(events)
        return [None] * len(events)

    await append(database, event("ann"))
    async with running(database, {"results": deliver}) as sending:
        await eventually(empty(admin))
        await eventually(lambda: sending.delivered == 1)
    assert arrived == [event("ann")]


async def test_an_event_whose_cause_was_rolled_back_never_arrives(
    database: Database, admin: Connection
) -> None:
    async def work(connection: Connection) -> None:
        await outbox.append(connection, [event("ann")])
        raise ServiceError(Reason.LESSON_LOCKED)

    with pytest.raises(ServiceError):
        await database.write(work, deadline=time.monotonic() + 5)
    receiver = Receiver()
    async with running(database, {"results": receiver}):
        await append(database, event("bob"))
        await eventually(empty(admin))
    assert receiver.seen == {"bob": 1}


async def test_an_event_that_is_there_already_is_not_added_again(
    database: Database, admin: Connection
) -> None:
    await append(database, event("ann", payload=b"first"))
    await append(database, event("ann", payload=b"second"), event("bob"))
    await append(database)
    rows = await admin.fetch("SELECT user_id, payload FROM outbox ORDER BY user_id")
    assert [(row["user_id"], row["payload"]) for row in rows] == [("ann", b"first"), ("bob", b"done")]


async def test_a_wake_after_the_commit_does_not_wait_for_the_next_poll(
    database: Database, admin: Connection
) -> None:
    receiver = Receiver()
    async with running(database, {"results": receiver}, interval_seconds=NEVER) as sending:
        for name in ("ann", "bob"):
            await append(database, event(name))
            sending.wake()
            await eventually(lambda name=name: receiver.seen[name])
    assert await empty(admin)()


async def test_a_relay_that_found_nothing_rests_until_the_next_wake_or_poll(
    database: Database, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = Relay._lease_due

    async def counted(sending: Relay, topic: str) -> Any:
        nonlocal looks
        looks += 1
        return await look(sending, topic)

    monkeypatch.setattr(Relay, "_lease_due", counted)
    async with running(database, {"results": Receiver()}, interval_seconds=NEVER) as sending:
        await append(database, event("ann"))
        sending.wake()
        await eventually(empty(admin))
        for _ in range(300):
            await admin.fetchval("SELECT 1")
        assert looks <= 3  # as it started, when it was woken, and when the event had arrived


async def test_a_wake_during_a_delivery_is_not_lost(database: Database, admin: Connection) -> None:
    delivering, go_on = asyncio.Event(), asyncio.Event()

    async def deliver(events: list[OutboxEvent]) -> list[None]:
        delivering.set()
        await go_on.wait()
        return [None] * len(events)

    async with running(database, {"results": deliver}, interval_seconds=NEVER) as sending:
        await append(database, event("ann"))
        sending.wake()
        await delivering.wait()
        await append(database, event("bob"))
        sending.wake()
        go_on.set()
        await eventually(empty(admin))


async def test_a_receiver_that_is_slow_delays_no_other_topic(database: Database, admin: Connection) -> None:
    go_on = asyncio.Event()

    async def slow(events: list[OutboxEvent]) -> list[None]:
        await go_on.wait()
        return [None] * len(events)

    receiver = Receiver()
    async with running(database, {"holds": slow, "results": receiver}) as sending:
        await append(database, event("ann", "holds"))
        await eventually(lambda: admin.fetchval("SELECT leased_until IS NOT NULL FROM outbox"))
        await append(database, event("bob"))
        await eventually(lambda: receiver.seen["bob"])
        await eventually(lambda: sending.delivered == 1)
        go_on.set()
        await eventually(empty(admin))


async def test_two_relays_at_once_deliver_everything_once(database: Database, admin: Connection) -> None:
    receivers = [Receiver(), Receiver()]
    async with (
        running(database, {"results": receivers[0]}, batch_size=7),
        running(database, {"results": receivers[1]}, batch_size=7),
    ):
        for batch in range(20):
            await append(database, *(event(f"user-{batch}-{n}") for n in range(25)))
        await eventually(empty(admin))
    seen = receivers[0].seen + receivers[1].seen
    assert len(seen) == 500
    assert set(seen.values()) == {1}
    assert all(receiver.calls for receiver in receivers), "one of them did nothing"


async def test_stopping_finishes_the_delivery_under_way(database: Database, admin: Connection) -> None:
    delivering, go_on = asyncio.Event(), asyncio.Event()

    async def deliver(events: list[OutboxEvent]) -> list[None]:
        delivering.set()
        await go_on.wait()
        return [None] * len(events)

    background = background_of(Relay(database, {"results": deliver}), interval_seconds=NEVER)
    await append(database, event("ann"))
    background.start()
    await delivering.wait()
    stopping = asyncio.create_task(background.stop())
    await append(database, event("bob"))
    go_on.set()
    await stopping
    left = await admin.fetch("SELECT user_id FROM outbox")
    assert [row["user_id"] for row in left] == ["bob"]
