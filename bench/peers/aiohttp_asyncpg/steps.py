"""A start as one transaction: lock the account, read, count, write the session, write the key."""

from __future__ import annotations

import datetime as dt
import uuid

import asyncpg
import msgspec

from bench.peers.aiohttp_asyncpg import sql
from bench.peers.aiohttp_asyncpg.contract import Started, StartRefusedError, StartRequest, fingerprint


async def start_session(
    connection: asyncpg.Connection, user_id: str, key: str, request: StartRequest, raw: bytes
) -> Started:
    """Starts, resumes or replays; raises StartRefusedError when the learner may not start."""
    print_of_body = fingerprint(raw)
    async with connection.transaction():
        account = await connection.fetchrow(sql.LOCK_ACCOUNT, user_id)
        if account is None or not account["active"]:
            raise StartRefusedError(400, "INVALID_USER_REFERENCE")
        # A second statement, because the first one's snapshot is older than its lock.
        state = await connection.fetchrow(sql.STATE, user_id, key, request.test_id)
        assert state is not None  # the account is there: it is locked
        if state["fingerprint"] is not None:
            if state["fingerprint"] != print_of_body:
                raise StartRefusedError(422, "IDEMPOTENCY_KEY_REUSED")
            return Started(state["status"], state["response"], replayed=True)
        if state["test_title"] is None:
            raise StartRefusedError(404, "NOT_FOUND")
        status = 201 if state["session_id"] is None else 200
        if status == 201:
            limit = account["daily_test_limit"]
            if limit == 0 or await connection.fetchrow(sql.COUNT, user_id, limit) is None:
                raise StartRefusedError(429, "DAILY_LIMIT_REACHED")
            session = _new_session(request, state, account["now"])
            await connection.execute(sql.INSERT_SESSION, user_id, request.test_id, *session)
        else:
            session = tuple(state[name] for name in SESSION_COLUMNS)
        body = _body(user_id, request.test_id, session, resumed=status == 200)
        await connection.execute(sql.INSERT_KEY, user_id, key, print_of_body, status, body)
    return Started(status, body)


SESSION_COLUMNS = ("session_id", "title", "kind", "difficulty", "state", "started_at", "metadata", "version")
Session = tuple[uuid.UUID, str, str, str, str, dt.datetime, str, int]


def _new_session(request: StartRequest, state: asyncpg.Record, now: dt.datetime) -> Session:
    return (
        uuid.uuid4(),
        request.title or state["test_title"],
        state["test_kind"],
        state["test_difficulty"] if request.difficulty is None else request.difficulty,
        "ACTIVE",
        now,
        msgspec.json.encode(request.metadata).decode(),
        1,
    )


def _body(user_id: str, test_id: str, session: Session, *, resumed: bool) -> str:
    session_id, title, kind, difficulty, state, started_at, metadata, version = session
    view = {
        "sessionId": str(session_id),
        "userId": user_id,
        "testId": test_id,
        "title": title,
        "kind": kind,
        "difficulty": difficulty,
        "state": state,
        "resumed": resumed,
        "startedAt": started_at,
        "attempt": 1,
        "questions": [],
        "answered": 0,
        "total": 0,
        "engagedSeconds": 0,
        "metadata": msgspec.Raw(metadata),
        "version": version,
    }
    return msgspec.json.encode(view).decode()
