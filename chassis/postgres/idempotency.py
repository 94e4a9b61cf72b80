"""The stored keys of mutations: each key with the fingerprint of its request and the answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any

import asyncpg

from chassis.batch import Reply
from chassis.context import Claim
from chassis.errors import Reason, ServiceError
from chassis.frozen import quick
from chassis.postgres.database import Database
from chassis.postgres.pool import Connection
from chassis.postgres.rows import RowType, as_rows

CONSTRAINT = "idempotency_keys_once"
"""The constraint that a second claim of a key violates."""

KEYS_PER_PURGE = 1000
PURGE_SECONDS_MAX = 5.0


class KeyState(StrEnum):
    COMPLETED = "completed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The stored values of a key. The fingerprint and the response of an aborted key are empty."""

    fingerprint: bytes
    state: KeyState
    response: bytes
    traceparent: str
    content: str = ""


@quick
@dataclass(frozen=True, slots=True)
class CompletedCall:
    """A keyed mutation, and the serialized response to store for its replays.

    `content` names a part of the reply that another table keeps, such as the questions of a session. It is
    empty when the response is complete.
    """

    user_id: str
    method: str
    key: str
    fingerprint: bytes
    response: bytes
    traceparent: str = ""
    content: str = ""

    @property
    def claim(self) -> Claim:
        return Claim(self.user_id, self.method, self.key)

    def reply(self) -> Reply[Any]:
        """The answer to the request that was carried out."""
        return Reply(self.response, content=self.content)


claim_order = attrgetter("user_id", "method", "key")
"""By what all batches order the calls whose keys they claim, so that they cannot deadlock."""

# The statements of the services contain these texts, so that only this module spells the table's columns.

COMPLETED_CALL = RowType(
    "completed_call",
    "user_id text, method text, key text, fingerprint bytea, response bytea, traceparent text, content text",
)


def claim_from(source: str) -> str:
    """The statement that claims the keys of a source of rows of COMPLETED_CALL.

    If one of the keys is in use, the statement fails with a ConstraintViolation of `CONSTRAINT`.
    """
    return f"""
        INSERT INTO idempotency_keys
               (user_id, method, key, state, fingerprint, response, traceparent, content)
        SELECT user_id, method, key, 'completed', fingerprint, response, traceparent, content
          FROM {source}
    """


STORED_COLUMNS = """
    stored.state AS stored_state, stored.fingerprint AS stored_fingerprint,
    stored.response AS stored_response, stored.traceparent AS stored_traceparent,
    stored.content AS stored_content
"""
STORED_OF_WANTED = """
    LEFT JOIN LATERAL (SELECT state, fingerprint, response, traceparent, content
                         FROM idempotency_keys
                        WHERE user_id = wanted.user_id AND method = wanted.method AND key = wanted.key
                        LIMIT 1) AS stored ON true
"""
"""Joins the stored values to the rows `wanted` (user_id, method, key), with one index probe for each."""


def stored_from(row: asyncpg.Record) -> StoredResponse | None:
    """The stored values in a row with STORED_COLUMNS; None when the key is unused."""
    state = row["stored_state"]
    if state is None:
        return None
    return StoredResponse(
        fingerprint=row["stored_fingerprint"] or b"",
        state=KeyState(state),
        response=row["stored_response"] or b"",
        traceparent=row["stored_traceparent"],
        content=row["stored_content"],
    )


def claim_rows(calls: Iterable[CompletedCall]) -> list[Sequence[object]]:
    """These calls as rows of COMPLETED_CALL, in one order for all batches, so that they cannot deadlock."""
    return COMPLETED_CALL.values(sorted(calls, key=claim_order))


async def find(connection: Connection, claims: Iterable[Claim]) -> dict[Claim, StoredResponse]:
    """The stored values of these keys; unused keys are absent."""
    wanted = list(set(claims))
    if not wanted:
        return {}
    rows = await connection.fetch(_FIND, as_rows([claim._asdict() for claim in wanted]))
    found = ((Claim(row["user_id"], row["method"], row["key"]), stored_from(row)) for row in rows)
    return {claim: stored for claim, stored in found if stored is not None}


_FIND = f"""
    SELECT wanted.user_id, wanted.method, wanted.key, {STORED_COLUMNS}
      FROM json_to_recordset($1) AS wanted (user_id text, method text, key text)
    {STORED_OF_WANTED}
"""


def check(stored: StoredResponse, fingerprint: bytes) -> Reply[Any] | ServiceError:
    """The answer to a request whose key is in use: the stored response, or a refusal."""
    if stored.state is KeyState.ABORTED:
        return ServiceError(Reason.REQUEST_ABORTED)
    if stored.fingerprint != fingerprint:
        return ServiceError(Reason.IDEMPOTENCY_KEY_REUSED)
    return Reply(stored.response, replayed=True, original=stored.traceparent, content=stored.content)


async def claim(connection: Connection, calls: Sequence[CompletedCall]) -> None:
    """Store these calls as completed, inside the transaction of their effects.

    If one of the keys is in use, this raises a ConstraintViolation of `CONSTRAINT`.
    """
    if calls:
        await connection.execute(_CLAIM, claim_rows(calls))


_CLAIM = claim_from(COMPLETED_CALL.unnest(1))


async def abort(connection: Connection, claims: Iterable[Claim]) -> set[Claim]:
    """Make sure that these keys never have an effect. Returns the keys that are aborted now.

    A key that is missing from the result is already completed. A key that was aborted earlier is in the
    result (an update that changes nothing returns it), so that an interrupted caller can repeat the call.
    """
    ordered = sorted(set(claims))
    if not ordered:
        return set()
    rows = await connection.fetch(
        """
        INSERT INTO idempotency_keys AS stored (user_id, method, key, state)
        SELECT user_id, method, key, 'aborted'
          FROM json_to_recordset($1) AS orphan (user_id text, method text, key text)
            ON CONFLICT ON CONSTRAINT idempotency_keys_once DO UPDATE
               SET state = stored.state
             WHERE stored.state = 'aborted'
        RETURNING stored.user_id, stored.method, stored.key
        """,
        as_rows([claim._asdict() for claim in ordered]),
    )
    return {Claim(row["user_id"], row["method"], row["key"]) for row in rows}


async def purge_keys(database: Database, *, older_than: timedelta) -> float | None:
    """Delete keys of at least this age: a batch of the oldest, in one transaction.

    This is a job of every service (see `Background`). It returns 0 while there are more such keys, else None.
    """

    async def work(connection: Connection) -> int:
        rows = await connection.fetch(
            """
            DELETE FROM idempotency_keys
             WHERE ctid = ANY (ARRAY(SELECT ctid
                                       FROM idempotency_keys
                                      WHERE created_at < now() - $1::interval
                                      ORDER BY created_at
                                      LIMIT $2
                                        FOR UPDATE SKIP LOCKED))
            RETURNING 1
            """,
            older_than,
            KEYS_PER_PURGE,
        )
        return len(rows)

    deadline = time.monotonic() + PURGE_SECONDS_MAX
    purged = await database.write(work, deadline=deadline, name="purge_keys")
    return 0.0 if purged == KEYS_PER_PURGE else None
