"""A watcher of the licenses sees every change once and in order, beside any number of writers."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import asyncpg
import pytest

from chassis.batch import Item
from chassis.context import service_context
from chassis.postgres import Connection, Database
from chassis.process.background import Background
from chassis.telemetry.metrics import Metrics
from homeroom.embedded.provisioning import ServiceDatabase
from subscription_service.domain.licenses import LevelReached, LicenseRecord
from subscription_service.operations.license_feed import LicenseFeed
from subscription_service.store import licenses as license_store
from subscription_service.store.license_notifications import listen_until_lost
from subscription_service.store.license_reads import LicenseReader, raise_feed_origin
from tests.subscription.service import LICENSES, Subscriptions

SECONDS_MAX = 20.0


async def take(subscriptions: Subscriptions, count: int, *, after: int = 0) -> list[Any]:
    """The first changes after a sequence number, from a watch that ends after them."""
    watch = subscriptions.watch(after)
    changes: list[Any] = []
    async with asyncio.timeout(SECONDS_MAX):
        async for change in watch:
            changes.append(change)
            if len(changes) == count:
                break
    await watch.aclose()
    return changes


async def feed_now(subscriptions: Subscriptions, after: int = 0) -> list[tuple[str, int]]:
    """The learners and levels of the changes that the feed shows at this moment."""
    reader = LicenseReader(database=subscriptions.database)
    changes = await reader.read_feed(after=after, limit=500, deadline=time.monotonic() + 5.0)
    return [(change.progression.user_id, change.progression.to_level) for change in changes]


def listening_to(database: ServiceDatabase, notify: Callable[[], None]) -> Background:
    """Listens as the service does, until it is stopped."""
    background = Background(metrics=Metrics(service="subscription_service"))
    listen = partial(listen_until_lost, database.service, notify)
    background.add("license_notifications", listen, interval_seconds=0.01, cancel_at_stop=True)
    background.start()
    return background


class OpenTransaction:
    """A transaction of another process that has changed a license and has not ended."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.transaction = connection.transaction()

    async def begin(self) -> None:
        await self.transaction.start()
        await self.connection.execute("SELECT pg_current_xact_id()")

    async def change(self, user_id: str, level: int) -> None:
        now = await self.connection.fetchval("SELECT now()")
        record = LicenseRecord(user_id, now)
        record.reach(LevelReached(user_id, "physics", level, 5, uuid.uuid4(), "level up", None))
        await license_store._write(self.connection, [record])

    async def commit(self) -> None:
        await self.transaction.commit()


@pytest.fixture
async def two_transactions(
    subscription_database: ServiceDatabase,
) -> AsyncIterator[tuple[OpenTransaction, OpenTransaction]]:
    connections = [await asyncpg.connect(subscription_database.service) for _ in range(2)]
    yield OpenTransaction(connections[0]), OpenTransaction(connections[1])
    for connection in connections:
        await connection.close()


@pytest.mark.parametrize(
    "order", [order for order in itertools.permutations(["1b", "1w", "1c", "2b", "2w", "2c"])
              if order.index("1b") < order.index("1w") < order.index("1c")
              and order.index("2b") < order.index("2w") < order.index("2c")],
    ids="-".join,
)  # fmt: skip
async def test_no_interleaving_of_two_transactions_hides_a_change_from_a_reader(
    subscriptions: Subscriptions,
    two_transactions: tuple[OpenTransaction, OpenTransaction],
    order: tuple[str, ...],
) -> None:
    """b: begin (and get an id), w: write a change, c: commit; the reader looks after each step."""
    users = await subscriptions.accounts(2)
    reader = LicenseReader(database=subscriptions.database)
    seen: list[str] = []
    after = 0
    committed: set[str] = set()
    for step in order:
        number, what = int(step[0]) - 1, step[1]
        other = two_transactions[number]
        if what == "b":
            await other.begin()
        elif what == "w":
            await other.change(users[number], 1)
        else:
            await other.commit()
            committed.add(users[number])
        for change in await reader.read_feed(after=after, limit=10, deadline=time.monotonic() + 5.0):
            assert change.sequence > after
            after = change.sequence
            seen.append(change.progression.user_id)
        assert set(seen) <= committed
    assert sorted(seen) == users


async def test_a_change_that_commits_late_is_not_skipped(
    subscriptions: Subscriptions, two_transactions: tuple[OpenTransaction, OpenTransaction]
) -> None:
    early, late = await subscriptions.accounts(2)
    slow, _ = two_transactions
    await slow.begin()
    await subscriptions.apply_level(early, "physics", 2)
    await slow.change(late, 3)
    # The quick transaction is committed, but the slow one may still write a lower number.
    assert await feed_now(subscriptions) == []
    await slow.commit()
    assert sorted(await feed_now(subscriptions)) == [(early, 2), (late, 3)]


async def test_a_watch_goes_on_from_any_sequence_number(subscriptions: Subscriptions) -> None:
    users = await subscriptions.accounts(3)
    for level, user_id in itertools.product((1, 2), users):
        await subscriptions.apply_level(user_id, "physics", level)
    changes = await take(subscriptions, 6)
    assert [(change.license.user_id, change.license.level) for change in changes] == [
        (user_id, level) for level, user_id in itertools.product((1, 2), users)
    ]
    assert [getattr(change.progression, "from") for change in changes] == [0, 0, 0, 1, 1, 1]
    for seen in range(1, 6):
        rest = await take(subscriptions, 6 - seen, after=changes[seen - 1].sequence)
        assert rest == changes[seen:]


async def test_a_watch_lives_on_polling_alone(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    # The writer is in another process, so the watched feed gets no hint.
    other = Subscriptions(subscriptions.database, subscriptions.truth)
    watching = asyncio.create_task(take(subscriptions, 3))
    for level in (1, 2, 3):
        await other.apply_level(ann, "physics", level)
    assert [change.license.level for change in await watching] == [1, 2, 3]


async def test_a_hint_makes_a_watch_look_that_polls_rarely(
    subscriptions: Subscriptions, subscription_database: ServiceDatabase
) -> None:
    ann = await subscriptions.account("ann")
    reader = LicenseReader(database=subscriptions.database)
    feed = LicenseFeed(reader=reader, poll_seconds=3600.0)
    listening = listening_to(subscription_database, feed.wake)
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def watch() -> None:
        call = service_context(f"/{LICENSES}/WatchLicenses", timeout_seconds=3600.0)
        async for change in feed.watch(Item(call, 0)):
            seen.put_nowait(change.progression.to_level)

    watching = asyncio.create_task(watch())
    try:
        async with asyncio.timeout(SECONDS_MAX):
            for level in (1, 2, 3):
                await subscriptions.apply_level(ann, "physics", level)
                assert await seen.get() == level
            feed.close()
            await watching
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await listening.stop()


async def test_a_lost_listener_connects_again(
    subscriptions: Subscriptions, subscription_database: ServiceDatabase
) -> None:
    heard = asyncio.Event()
    listening = listening_to(subscription_database, heard.set)
    ann = await subscriptions.account("ann")
    try:
        async with asyncio.timeout(SECONDS_MAX):
            for level in (1, 2):
                await heard.wait()  # once it is connected, without any change
                heard.clear()
                await subscriptions.apply_level(ann, "physics", level)
                await heard.wait()
                heard.clear()
                await subscriptions.truth.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name LIKE '%listening'"
                )
    finally:
        await listening.stop()


async def test_a_watcher_sees_every_change_of_many_writers_once_and_in_order(
    subscriptions: Subscriptions,
) -> None:
    users = await subscriptions.accounts(12)
    levels = 8
    watching = asyncio.create_task(take(subscriptions, len(users) * levels))

    async def climb(user_id: str) -> None:
        for level in range(1, levels + 1):
            await subscriptions.apply_level(user_id, "physics", level, max_level=levels)

    await asyncio.gather(*map(climb, random.sample(users, len(users))))
    changes = await watching
    sequences = [change.sequence for change in changes]
    assert sequences == sorted(set(sequences))
    for user_id in users:
        climbed = [change.license.level for change in changes if change.license.user_id == user_id]
        assert climbed == list(range(1, levels + 1))


async def test_sequence_numbers_rise_after_a_restore_into_a_younger_cluster(
    subscriptions: Subscriptions, database: Database
) -> None:
    ann, bob = await subscriptions.accounts(2)
    await subscriptions.apply_level(ann, "physics", 1)
    await subscriptions.truth.execute(
        "UPDATE license_changes SET sequence = sequence + (1000000::bigint << 16)"
    )
    await raise_feed_origin(database, deadline=time.monotonic() + 5.0)
    await raise_feed_origin(database, deadline=time.monotonic() + 5.0)
    await subscriptions.apply_level(bob, "physics", 2)
    changes = await take(subscriptions, 2)
    assert [change.license.user_id for change in changes] == [ann, bob]
    assert changes[0].sequence < changes[1].sequence


async def test_an_origin_that_is_high_enough_stays(subscriptions: Subscriptions, database: Database) -> None:
    ann = await subscriptions.account("ann")
    await subscriptions.apply_level(ann, "physics", 1)
    await raise_feed_origin(database, deadline=time.monotonic() + 5.0)
    assert await subscriptions.truth.fetchval("SELECT origin FROM license_feed") == 0
