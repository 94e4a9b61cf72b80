"""Committed events arrive at least once, whoever dies, and none holds up another."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chassis import failpoints, outbox, relay
from chassis.config import Mode
from chassis.errors import Reason, ServiceError
from chassis.migrations import FOLDER, migrate
from chassis.outbox import OutboxEvent
from chassis.postgres import Connection, Database
from chassis.relay import Deliver, Relay
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.waiting import eventually

NAMESPACE = uuid.UUID("7d3c1a52-5c0f-4c56-9d5e-5d3f6a1b2c3d")
NEVER = 3600.0


@pytest.fixture
async def database(empty_database: ServiceDatabase) -> AsyncIterator[Database]:
    await migrate(empty_database.owner, {"chassis": FOLDER})
    database = await Database.connect(empty_database.service, maximum=8)
    yield database
    await database.close()


@pytest.fixture
async def admin(empty_database: ServiceDatabase, database: Database) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_database.superuser)
    yield connection
    await connection.close()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "BACKOFF_SECONDS", 0.001)


@pytest.fixture
def armed(tmp_path: Path) -> Iterator[Path]:
    failpoints.configure(tmp_path, Mode.DEVELOPMENT)
    yield tmp_path
    failpoints.configure(None, Mode.DEVELOPMENT)


class Receiver:
    """Remembers what arrived; answers as it is told, or that all is well."""

    def __init__(self, answer: Callable[[OutboxEvent], ServiceError | None] = lambda _: None) -> None:
        self._answer = answer
        self.calls = 0
        self.seen: Counter[str] = Counter()

    async def __call__(self, events: list[OutboxEvent]) -> Sequence[ServiceError | None]:
        self.calls += 1
        answers = [self._answer(event) for event in events]
        self.seen.update(event.user_id for event in events)
        return answers


@asynccontextmanager
async def running(database: Database, topics: Mapping[str, Deliver], **settings: Any) -> AsyncIterator[Relay]:
    running = Relay(database, topics, **{"poll_seconds": 0.02, **settings})
    running.start()
    try:
        yield running
    finally:
        async with asyncio.timeout(20):
            await running.stop()


def event(user_id: str, topic: str = "results", payload: bytes = b"done") -> OutboxEvent:
    return OutboxEvent(user_id, outbox.event_id(NAMESPACE, topic, user_id), topic, payload, "00-a-b-01")


async def append(database: Database, *events: OutboxEvent) -> None:
    await database.write(lambda connection: outbox.append(connection, events), deadline=time.monotonic() + 5)


def empty(admin: Connection) -> Callable[[], Awaitable[Any]]:
    return lambda: admin.fetchval("SELECT count(*) = 0 FROM outbox")


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
    async with running(database, {"results": receiver}, poll_seconds=NEVER) as sending:
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
    async with running(database, {"results": Receiver()}, poll_seconds=NEVER) as sending:
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

    async with running(database, {"results": deliver}, poll_seconds=NEVER) as sending:
        await append(database, event("ann"))
        sending.wake()
        await delivering.wait()
        await append(database, event("bob"))
        sending.wake()
        go_on.set()
        await eventually(empty(admin))


async def test_an_event_that_fails_for_now_is_delivered_later(
    database: Database, admin: Connection, quick_retries: None
) -> None:
    remaining = [Reason.UNAVAILABLE, Reason.INTERNAL, Reason.PERMISSION_DENIED, Reason.OVERLOADED]
    receiver = Receiver(lambda _: ServiceError(remaining.pop()) if remaining else None)
    await append(database, event("ann"))
    async with running(database, {"results": receiver}) as sending:
        await eventually(empty(admin))
        await eventually(lambda: sending.delivered)
        assert (sending.failed, sending.parked) == (4, 0)
    assert receiver.seen == {"ann": 5}


async def test_what_was_the_matter_is_kept_with_the_event(database: Database, admin: Connection) -> None:
    receiver = Receiver(lambda _: ServiceError(Reason.OVERLOADED, "later", retry_after_seconds=30))
    await append(database, event("ann"))
    async with running(database, {"results": receiver}) as sending:
        await eventually(lambda: sending.failed)
    row = await admin.fetchrow(
        "SELECT attempts, last_error, leased_until, parked_at, "
        "available_at > now() + interval '20 s' AS obeys FROM outbox"
    )
    assert dict(row or {}) == {
        "attempts": 1,
        "last_error": "OVERLOADED: later",
        "leased_until": None,
        "parked_at": None,
        "obeys": True,
    }


async def test_an_event_that_is_refused_for_good_is_parked_and_out_of_the_way(
    database: Database, admin: Connection
) -> None:
    receiver = Receiver(lambda each: ServiceError(Reason.INVALID_ARGUMENT) if each.user_id == "bad" else None)
    await append(database, event("bad"), *(event(f"good-{n}") for n in range(20)))
    async with running(database, {"results": receiver}, batch_size=4) as sending:
        await eventually(lambda: sending.delivered == 20 and sending.parked == 1)
        await append(database, event("late"))
        await eventually(lambda: sending.delivered == 21)
    assert receiver.seen["bad"] == 1
    assert await admin.fetchval("SELECT user_id FROM outbox WHERE parked_at IS NOT NULL") == "bad"
    assert await outbox.backlog(database) == outbox.Backlog(waiting=0, parked=1, oldest_waiting_seconds=0.0)


async def test_a_backlog_says_how_much_waits_and_for_how_long(database: Database, admin: Connection) -> None:
    await append(database, event("ann"), event("bob"))
    await admin.execute("UPDATE outbox SET created_at = now() - interval '90 s' WHERE user_id = 'ann'")
    backlog = await outbox.backlog(database)
    assert (backlog.waiting, backlog.parked) == (2, 0)
    assert backlog.oldest_waiting_seconds >= 90


async def test_one_event_that_breaks_the_delivery_does_not_hold_up_its_neighbours(
    database: Database, admin: Connection
) -> None:
    def answer(each: OutboxEvent) -> None:
        if each.user_id == "poison":
            raise KeyError(each.user_id)

    receiver = Receiver(answer)
    await append(database, event("poison"), *(event(f"good-{n}") for n in range(10)))
    async with running(database, {"results": receiver}) as sending:
        await eventually(lambda: sending.delivered == 10 and sending.failed)
    row = await admin.fetchrow("SELECT user_id, last_error, parked_at FROM outbox")
    assert dict(row or {}) == {
        "user_id": "poison",
        "last_error": "INTERNAL: KeyError('poison')",
        "parked_at": None,
    }


async def test_a_receiver_that_answers_for_fewer_events_than_it_got_acknowledges_none(
    database: Database, admin: Connection
) -> None:
    async def deliver(events: list[OutboxEvent]) -> list[None]:
        return []

    await append(database, event("ann"), event("bob"))
    async with running(database, {"results": deliver}) as sending:
        await eventually(lambda: sending.failed >= 2)
    assert await admin.fetchval("SELECT count(*) FROM outbox") == 2


async def test_a_receiver_that_hangs_is_given_up(database: Database, admin: Connection) -> None:
    async def hang(_events: list[OutboxEvent]) -> list[None]:
        await asyncio.Event().wait()
        raise AssertionError

    await append(database, event("ann"))
    async with running(
        database, {"results": hang}, delivery_seconds_maximum=0.05, lease_seconds=5
    ) as sending:
        await eventually(lambda: sending.failed)
    last_error = await admin.fetchval("SELECT last_error FROM outbox")
    assert last_error == str(ServiceError(Reason.DEADLINE_EXCEEDED))


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


async def test_a_receiver_that_is_down_does_not_see_the_whole_backlog_again_and_again(
    database: Database, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_back_off_seconds", lambda _attempt, _maximum: NEVER)
    receiver = Receiver(lambda _: ServiceError(Reason.UNAVAILABLE))
    await append(database, *(event(f"user-{n}") for n in range(40)))
    async with running(database, {"results": receiver}, batch_size=10) as sending:
        await eventually(lambda: sending.failed == 10)
        for _ in range(50):
            sending.wake()
            await admin.fetchval("SELECT count(*) FROM outbox")
        assert receiver.calls == 1
    assert await admin.fetchval("SELECT count(*) FROM outbox WHERE attempts = 0") == 30


async def test_a_crash_between_delivery_and_acknowledgement_means_a_second_delivery(
    database: Database, admin: Connection, armed: Path
) -> None:
    failpoints.arm(armed, "relay.after_delivery", "error")
    receiver = Receiver()
    await append(database, event("ann"))
    async with running(database, {"results": receiver}, delivery_seconds_maximum=0.1, lease_seconds=0.2):
        await eventually(empty(admin))
    assert receiver.seen == {"ann": 2}


async def test_a_lease_that_ran_out_does_not_undo_the_next_ones_lease(
    database: Database, admin: Connection
) -> None:
    async def deliver(events: list[OutboxEvent]) -> list[ServiceError]:
        # While this delivery takes its time, the lease runs out and another replica takes the event.
        await database.execute_write(
            "UPDATE outbox SET attempts = attempts + 1, leased_until = now() + interval '1 h'",
            deadline=time.monotonic() + 5,
        )
        return [ServiceError(Reason.INVALID_ARGUMENT)] * len(events)

    await append(database, event("ann"))
    async with running(database, {"results": deliver}):
        await eventually(lambda: admin.fetchval("SELECT attempts = 2 FROM outbox"))
    row = await admin.fetchrow("SELECT leased_until > now() AS leased, parked_at FROM outbox")
    assert dict(row or {}) == {"leased": True, "parked_at": None}


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

    sending = Relay(database, {"results": deliver}, poll_seconds=NEVER)
    await append(database, event("ann"))
    sending.start()
    await delivering.wait()
    stopping = asyncio.create_task(sending.stop())
    await append(database, event("bob"))
    go_on.set()
    await stopping
    left = await admin.fetch("SELECT user_id FROM outbox")
    assert [row["user_id"] for row in left] == ["bob"]


async def test_it_goes_on_when_its_connections_have_died(
    database: Database, admin: Connection, quick_retries: None
) -> None:
    receiver = Receiver()
    async with running(database, {"results": receiver}) as sending:
        await append(database, event("ann"))
        await eventually(lambda: sending.delivered == 1)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        await eventually(_appended(database, event("bob")))
        await eventually(lambda: receiver.seen["bob"])


def _appended(database: Database, *events: OutboxEvent) -> Callable[[], Awaitable[bool]]:
    async def attempt() -> bool:
        try:
            await append(database, *events)
        except ServiceError:
            return False
        return True

    return attempt


PROGRAM = """
import asyncio, sys
from pathlib import Path
from chassis import failpoints
from chassis.config import Mode
from chassis.postgres import Database
from chassis.relay import Relay

async def main(dsn: str, log: str, armed: str) -> None:
    failpoints.configure(Path(armed), Mode.DEVELOPMENT)

    async def deliver(events):
        with open(log, "a") as file:
            file.writelines(f"{event.user_id}\\n" for event in events)
        return [None] * len(events)

    relay = Relay(await Database.connect(dsn), {"results": deliver}, poll_seconds=0.02,
                  delivery_seconds_maximum=0.5, lease_seconds=1)
    relay.start()
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.fault
async def test_a_relay_that_is_killed_after_delivery_loses_nothing(
    empty_database: ServiceDatabase, database: Database, admin: Connection, tmp_path: Path
) -> None:
    log, armed = tmp_path / "arrived", tmp_path / "armed"
    armed.mkdir()
    command = [sys.executable, "-c", PROGRAM, empty_database.service, str(log), str(armed)]
    await append(database, *(event(f"user-{n}") for n in range(10)))
    failpoints.arm(armed, "relay.after_delivery", "kill")
    victim = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    async with asyncio.timeout(30):
        assert await victim.wait() == -9
    assert Counter(log.read_text().split()) == {f"user-{n}": 1 for n in range(10)}
    assert await admin.fetchval("SELECT count(*) FROM outbox") == 10
    heir = await asyncio.create_subprocess_exec(*command)
    try:
        await eventually(empty(admin), seconds=30)
    finally:
        heir.kill()
        await heir.wait()
    assert Counter(log.read_text().split()) == {f"user-{n}": 2 for n in range(10)}
