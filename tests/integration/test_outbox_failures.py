"""After any failure, each event arrives at least once, and no event delays another."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from chassis import failpoints
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database, relay
from chassis.postgres.outbox import OutboxEvent
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.outbox import NEVER, Receiver, append, empty, event, running
from tests.support.waiting import eventually


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "BACKOFF_SECONDS", 0.001)


@pytest.fixture
def armed(tmp_path: Path) -> Iterator[Path]:
    failpoints.configure(tmp_path, allowed=True)
    yield tmp_path
    failpoints.configure(None, allowed=True)


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


async def test_the_last_error_is_stored_with_the_event(database: Database, admin: Connection) -> None:
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
    kept = await admin.fetch("SELECT user_id, parked_at IS NOT NULL AS parked FROM outbox")
    assert [tuple(row) for row in kept] == [("bad", True)]


async def test_one_event_that_breaks_the_delivery_does_not_delay_the_others(
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


async def test_a_receiver_with_too_few_answers_acknowledges_no_event(
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
    async with running(database, {"results": hang}, delivery_seconds_max=0.05, lease_seconds=5) as sending:
        await eventually(lambda: sending.failed)
    last_error = await admin.fetchval("SELECT last_error FROM outbox")
    assert last_error == str(ServiceError(Reason.DEADLINE_EXCEEDED))


async def test_a_receiver_that_is_down_does_not_see_the_whole_backlog_again_and_again(
    database: Database, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "full_jitter", lambda _attempt, **_limits: NEVER)
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
    async with running(database, {"results": receiver}, delivery_seconds_max=0.1, lease_seconds=0.2):
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
from chassis.postgres import Database
from chassis.postgres.relay import Relay
from tests.support.outbox import running

async def main(dsn: str, log: str, armed: str) -> None:
    failpoints.configure(Path(armed), allowed=True)

    async def deliver(events):
        with open(log, "a") as file:
            file.writelines(f"{event.user_id}\\n" for event in events)
        return [None] * len(events)

    database = await Database.connect(dsn)
    async with running(database, {"results": deliver}, delivery_seconds_max=0.5, lease_seconds=1):
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
