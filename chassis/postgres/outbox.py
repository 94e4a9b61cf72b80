"""The outbox: events are committed together with their cause, and the relay delivers them later."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from chassis.ids import named_uuid
from chassis.postgres.database import Database
from chassis.postgres.pool import Connection
from chassis.postgres.rows import as_rows

PENDING_PER_USER_MAX = 20


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event that another service must receive at least once. The `event_id` shows it a repetition."""

    user_id: str
    event_id: uuid.UUID
    topic: str
    payload: bytes
    traceparent: str = ""


def event_id(namespace: uuid.UUID, *names: str) -> uuid.UUID:
    """An id made from names. The same names give the same id, so a repeated cause makes no second event."""
    return named_uuid(namespace, "\0".join(names))


APPEND_ROWS = """
    AS event (user_id text, event_id uuid, topic text, payload bytea, traceparent text)
"""
"""The rows of `append_rows`, as `json_to_recordset` takes them apart."""


def append_from(source: str) -> str:
    """The statement that adds the events of a source of APPEND_ROWS. An existing event is not changed.

    Each gets the time of the statement, not that of the transaction's begin: of two transactions that change
    one learner in turn, the second may have begun first.
    """
    return f"""
        INSERT INTO outbox (user_id, event_id, topic, payload, traceparent, created_at)
        SELECT user_id, event_id, topic, payload, traceparent, clock_timestamp()
          FROM {source}
            ON CONFLICT DO NOTHING
    """


def append_rows(events: Iterable[OutboxEvent]) -> str:
    """These events as one JSON parameter, in one order for all batches, so that they cannot deadlock."""
    return as_rows(sorted(events, key=lambda event: (event.user_id, event.event_id)))


_APPEND = append_from(f"json_to_recordset($1) {APPEND_ROWS}")


async def append(connection: Connection, events: Sequence[OutboxEvent]) -> None:
    """Add these events inside the caller's transaction. An existing event is not changed."""
    if events:
        await connection.execute(_APPEND, append_rows(events))


def is_under_way(owner: str, topic: str) -> str:
    """The condition that an event of this topic for this owner (a column) waits for delivery."""
    return f"""
        EXISTS (SELECT 1
                  FROM outbox
                 WHERE outbox.user_id = {owner} AND outbox.topic = '{topic}' AND outbox.parked_at IS NULL)
    """


async def pending(
    database: Database, topic: str, user_ids: Collection[str], *, deadline: float
) -> list[OutboxEvent]:
    """The events of a topic that wait for delivery, at most PENDING_PER_USER_MAX for each of these users.

    The caller may also deliver them: the receiver recognizes a repetition. Parked events are left out.
    """

    async def work(connection: Connection) -> list[OutboxEvent]:
        return [OutboxEvent(*row) for row in await connection.fetch(_PENDING, list(user_ids), topic)]

    return await database.read(work, deadline=deadline, name="pending_events")


_PENDING = f"""
    SELECT event.user_id, event.event_id, event.topic, event.payload, event.traceparent
      FROM unnest($1::text[]) AS wanted (user_id)
     CROSS JOIN LATERAL (
           SELECT user_id, event_id, topic, payload, traceparent
             FROM outbox
            WHERE user_id = wanted.user_id AND topic = $2 AND parked_at IS NULL
            LIMIT {PENDING_PER_USER_MAX}
           ) AS event
"""
