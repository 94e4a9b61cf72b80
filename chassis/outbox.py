"""Events that are committed together with their cause, to be delivered afterwards by the relay."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from chassis.postgres import Connection, Database

_BACKLOG_READ_SECONDS = 2.0
BACKLOG_COUNTED_MAXIMUM = 10_000


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """Something that another service must hear of at least once; it knows a repetition by `event_id`."""

    user_id: str
    event_id: uuid.UUID
    topic: str
    payload: bytes
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the outbox holds; each count stops at `BACKLOG_COUNTED_MAXIMUM`."""

    waiting: int
    parked: int
    oldest_waiting_seconds: float


def event_id(namespace: uuid.UUID, *names: str) -> uuid.UUID:
    """The same id for the same names, however often the cause is repeated."""
    return uuid.uuid5(namespace, "\0".join(names))


async def append(connection: Connection, events: Iterable[OutboxEvent]) -> None:
    """Add these events inside the caller's transaction; one that is there already stays as it is."""
    ordered = sorted(events, key=lambda event: (event.user_id, event.event_id))
    if not ordered:
        return
    await connection.execute(
        """
        INSERT INTO outbox (user_id, event_id, topic, payload, traceparent)
        SELECT user_id, event_id, topic, payload, traceparent
          FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bytea[], $5::text[])
               AS event (user_id, event_id, topic, payload, traceparent)
            ON CONFLICT DO NOTHING
        """,
        [event.user_id for event in ordered],
        [event.event_id for event in ordered],
        [event.topic for event in ordered],
        [event.payload for event in ordered],
        [event.traceparent for event in ordered],
    )


async def backlog(database: Database) -> Backlog:
    """How much waits for delivery and how much is parked: for a metric or a status page."""

    async def work(connection: Connection) -> Backlog:
        row = await connection.fetchrow(
            """
            SELECT (SELECT count(*)
                      FROM (SELECT 1 FROM outbox WHERE parked_at IS NULL LIMIT $1) AS counted) AS waiting,
                   (SELECT count(*)
                      FROM (SELECT 1 FROM outbox WHERE parked_at IS NOT NULL LIMIT $1) AS counted) AS parked,
                   coalesce((SELECT extract(epoch FROM now() - min(created_at))
                               FROM (SELECT created_at FROM outbox WHERE parked_at IS NULL LIMIT $1)
                                    AS counted), 0)::float8 AS oldest_waiting_seconds
            """,
            BACKLOG_COUNTED_MAXIMUM,
        )
        if row is None:
            raise AssertionError("a query of aggregates has one row")
        return Backlog(row["waiting"], row["parked"], row["oldest_waiting_seconds"])

    return await database.read(work, deadline=time.monotonic() + _BACKLOG_READ_SECONDS, name="outbox_backlog")
