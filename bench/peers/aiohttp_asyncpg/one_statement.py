"""A start as one statement, in one round trip; others follow only when it is not a plain start."""

from __future__ import annotations

import asyncpg
import msgspec

from bench.peers.aiohttp_asyncpg import sql
from bench.peers.aiohttp_asyncpg.contract import Started, StartRefusedError, StartRequest, fingerprint

ATTEMPTS_MAX = 3  # the session that a start lost to may have ended by the time that it is looked up


async def start_session(
    connection: asyncpg.Connection, user_id: str, key: str, request: StartRequest, raw: bytes
) -> Started:
    """Starts, resumes or replays; raises StartRefusedError when the learner may not start."""
    print_of_body = fingerprint(raw)
    metadata = msgspec.json.encode(request.metadata).decode()
    for _ in range(ATTEMPTS_MAX):
        try:
            row = await connection.fetchrow(
                sql.START,
                user_id, request.test_id, key, print_of_body, request.title, request.difficulty, metadata,
            )  # fmt: skip
        except asyncpg.UniqueViolationError:
            row = None  # a neighbour was first, with this key or with this test
        if row is not None:
            return Started(201, row["response"])
        found = await _already_there(connection, user_id, key, request.test_id, print_of_body)
        if found is not None:
            return found
        await _refuse_if_not_eligible(connection, user_id, request.test_id)
    raise StartRefusedError(503, "UNAVAILABLE")


async def _already_there(
    connection: asyncpg.Connection, user_id: str, key: str, test_id: str, print_of_body: bytes
) -> Started | None:
    stored = await connection.fetchrow(sql.STORED, user_id, key)
    if stored is not None:
        if stored["fingerprint"] != print_of_body:
            raise StartRefusedError(422, "IDEMPOTENCY_KEY_REUSED")
        return Started(stored["status"], stored["response"], replayed=True)
    resumed = await connection.fetchrow(sql.RESUME, user_id, test_id, key, print_of_body)
    return None if resumed is None else Started(200, resumed["response"])


async def _refuse_if_not_eligible(connection: asyncpg.Connection, user_id: str, test_id: str) -> None:
    reason = await connection.fetchrow(sql.REASON, user_id, test_id)
    assert reason is not None  # a SELECT without FROM has one row
    if not reason["active"]:
        raise StartRefusedError(400, "INVALID_USER_REFERENCE")
    if not reason["test_exists"]:
        raise StartRefusedError(404, "NOT_FOUND")
    if reason["daily_limit"] is not None and reason["used"] >= reason["daily_limit"]:
        raise StartRefusedError(429, "DAILY_LIMIT_REACHED")
