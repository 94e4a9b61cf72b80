"""Events to put into an outbox, a relay that sends them, and somebody who receives them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from chassis.errors import ServiceError
from chassis.postgres import Connection, Database, outbox
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres.relay import Deliver, Relay
from chassis.process.background import Background
from chassis.telemetry.metrics import Metrics

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
    """A relay whose topics are jobs, as `Service.add_relay` makes them; `settings` are the Relay's own."""
    interval_seconds = settings.pop("interval_seconds", 0.02)
    relay = Relay(database, topics, **settings)
    background = background_of(relay, interval_seconds=interval_seconds)
    background.start()
    try:
        yield relay
    finally:
        async with asyncio.timeout(20):
            await background.stop()


def background_of(relay: Relay, *, interval_seconds: float) -> Background:
    background = Background(metrics=Metrics(service="test"))
    for topic in relay.topics:
        job = background.add(topic, partial(relay.deliver_due, topic), interval_seconds=interval_seconds)
        relay.at_wake(job.wake)
    return background


def event(user_id: str, topic: str = "results", payload: bytes = b"done") -> OutboxEvent:
    return OutboxEvent(user_id, outbox.event_id(NAMESPACE, topic, user_id), topic, payload, "00-a-b-01")


async def append(database: Database, *events: OutboxEvent) -> None:
    await database.write(lambda connection: outbox.append(connection, events), deadline=time.monotonic() + 5)


def empty(admin: Connection) -> Callable[[], Awaitable[Any]]:
    return lambda: admin.fetchval("SELECT count(*) = 0 FROM outbox")
