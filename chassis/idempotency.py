"""The record of keyed mutations: who asked for what under which key, and what was answered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from google.protobuf.message import Message

from chassis.batch import Reply
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection

CONSTRAINT = "idempotency_keys_once"
"""The constraint that a second claim of a key violates."""


class Claim(NamedTuple):
    """Names a keyed mutation: the caller, the RPC and the caller's key."""

    user_id: str
    method: str
    key: str


class KeyState(StrEnum):
    COMPLETED = "completed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What is known of a key. An aborted one has no fingerprint and no response: both are empty."""

    fingerprint: bytes
    state: KeyState
    response: bytes
    traceparent: str


@dataclass(frozen=True, slots=True)
class CompletedCall:
    """A keyed mutation together with the serialized response to store for its replays."""

    claim: Claim
    fingerprint: bytes
    response: bytes
    traceparent: str = ""


def fingerprint(method: str, message: Message) -> bytes:
    """16 bytes that tell one request from another: equal for equal messages to the same method."""
    digest = hashlib.blake2b(method.encode(), digest_size=16)
    digest.update(b"\0")
    digest.update(message.SerializeToString(deterministic=True))
    return digest.digest()


async def find(connection: Connection, claims: Iterable[tuple[str, str, str]]) -> dict[Claim, StoredResponse]:
    """What is stored for these keys; keys that nobody has used are absent."""
    user_ids, methods, keys = _columns(claims)
    if not user_ids:
        return {}
    rows = await connection.fetch(
        """
        SELECT stored.user_id, stored.method, stored.key,
               stored.state, stored.fingerprint, stored.response, stored.traceparent
          FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (user_id, method, key)
          JOIN idempotency_keys AS stored USING (user_id, method, key)
        """,
        user_ids,
        methods,
        keys,
    )
    return {
        Claim(row["user_id"], row["method"], row["key"]): StoredResponse(
            fingerprint=row["fingerprint"] or b"",
            state=KeyState(row["state"]),
            response=row["response"] or b"",
            traceparent=row["traceparent"],
        )
        for row in rows
    }


def check(stored: StoredResponse, fingerprint: bytes) -> Reply[Any] | ServiceError:
    """What to answer a request whose key is in use: the stored response, or why it cannot be had."""
    if stored.state is KeyState.ABORTED:
        return ServiceError(Reason.REQUEST_ABORTED)
    if stored.fingerprint != fingerprint:
        return ServiceError(Reason.IDEMPOTENCY_KEY_REUSED)
    return Reply(stored.response, replayed=True, original=stored.traceparent)


async def claim(connection: Connection, calls: Iterable[CompletedCall]) -> None:
    """Record these calls as completed, inside the transaction of their effects.

    If one of the keys is in use the statement fails: the caller sees ConstraintViolation of `CONSTRAINT`.
    """
    ordered = sorted(calls, key=lambda call: call.claim)  # one order for all, so that batches cannot deadlock
    if not ordered:
        return
    user_ids, methods, keys = _columns(call.claim for call in ordered)
    await connection.execute(
        """
        INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response, traceparent)
        SELECT user_id, method, key, 'completed', fingerprint, response, traceparent
          FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[])
               AS call (user_id, method, key, fingerprint, response, traceparent)
        """,
        user_ids,
        methods,
        keys,
        [call.fingerprint for call in ordered],
        [call.response for call in ordered],
        [call.traceparent for call in ordered],
    )


async def abort(connection: Connection, claims: Iterable[tuple[str, str, str]]) -> set[Claim]:
    """Make sure that these keys never get an effect; returns those for which that is now certain.

    A key that is missing from the result had completed before. One that was aborted earlier is in it (hence
    the update that changes nothing), so that who was interrupted after the abort can finish what follows it.
    """
    user_ids, methods, keys = _columns(sorted(set(claims)))
    if not user_ids:
        return set()
    rows = await connection.fetch(
        """
        INSERT INTO idempotency_keys AS stored (user_id, method, key, state)
        SELECT user_id, method, key, 'aborted'
          FROM unnest($1::text[], $2::text[], $3::text[]) AS orphan (user_id, method, key)
            ON CONFLICT ON CONSTRAINT idempotency_keys_once DO UPDATE
               SET state = stored.state
             WHERE stored.state = 'aborted'
        RETURNING stored.user_id, stored.method, stored.key
        """,
        user_ids,
        methods,
        keys,
    )
    return {Claim(row["user_id"], row["method"], row["key"]) for row in rows}


async def purge(connection: Connection, older_than: timedelta, limit: int) -> int:
    """Forget up to `limit` of the oldest keys of at least this age; returns how many were forgotten."""
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
        limit,
    )
    return len(rows)


def _columns(claims: Iterable[tuple[str, str, str]]) -> tuple[list[str], list[str], list[str]]:
    user_ids: list[str] = []
    methods: list[str] = []
    keys: list[str] = []
    for user_id, method, key in claims:
        user_ids.append(user_id)
        methods.append(method)
        keys.append(key)
    return user_ids, methods, keys
