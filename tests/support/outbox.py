"""Events to put into an outbox, a relay that sends them, and somebody who receives them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from chassis.postgres import outbox
from chassis.errors import ServiceError
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres import Connection, Database
from chassis.postgres.relay import Deliver, Relay

NAMESPACE = uuid.UUID("7d3c1a52-5c0f-4c56-9d5e-5d3f6a1b2c3d")
NEVER = 3600.0


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
