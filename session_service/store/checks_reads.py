"""What checks and repairs read before Python decides: rows in the order of a key, and rows by their keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

import asyncpg
import orjson

from chassis.diagnostics.checks import Place
from chassis.postgres import Connection
from chassis.postgres.rows import as_rows, from_row, names
from session_service.domain.ids import SessionId
from session_service.domain.sessions import Session, SessionKey
from session_service.store.checks_sessions import history_is_kept
from session_service.store.editions import EditionKey, edition_key
from session_service.store.session_rows import LIVE, SESSION, SESSION_COLUMNS, session_from

V = TypeVar("V")

SESSIONS_OF_LEARNER_MAX = 200
"""Sessions of one learner that are looked at for one plan."""


@dataclass(frozen=True, slots=True)
class Stretch(Generic[V]):
    """Some rows of a list; `reached` is the place of the last one, None at the end of the list."""

    rows: list[V]
    reached: Place | None


class Listing(Generic[V]):
    """Rows of a table in the order of a key, a stretch at a time.

    Args:
        made: makes the value of a row.
        table: the table that is listed.
        key: the columns of the order, with their types; an index must begin with them. They identify a row.
        columns: what is selected, from `step` (a row of the table) and what is joined.
        joins: joined to `step`, one row for each.
        where: a condition on the table, which the index supports.
    """

    def __init__(
        self,
        made: Callable[[asyncpg.Record], V],
        *,
        table: str,
        key: str,
        columns: str,
        joins: str = "",
        where: str = "",
    ) -> None:
        self._made = made
        self._key = names(key).split(", ")
        types = [column.split()[1] for column in key.split(",")]
        self._statements = {
            (of_one, behind): self._statement(
                table=table,
                types=types,
                columns=columns,
                joins=joins,
                where=where,
                of_one=of_one,
                behind=behind,
            )
            for of_one in (False, True)
            for behind in (False, True)
        }

    async def fetch(
        self, connection: Connection, *, user_id: str, after: Place | None, limit: int
    ) -> Stretch[V]:
        """The next rows behind a place, of one learner unless `user_id` is empty."""
        statement = self._statements[bool(user_id), after is not None]
        rows = await connection.fetch(statement, limit, *([user_id] if user_id else []), *(after or ()))
        more = len(rows) == limit
        reached = tuple(str(rows[-1][name]) for name in self._key) if more else None
        return Stretch([self._made(row) for row in rows], reached)

    def _statement(
        self,
        *,
        table: str,
        types: Sequence[str],
        columns: str,
        joins: str,
        where: str,
        of_one: bool,
        behind: bool,
    ) -> str:
        conditions = [f"({where})"] if where else []
        if of_one:
            conditions.append("user_id = $2")
        if behind:
            first = 3 if of_one else 2
            places = ", ".join(f"${first + at}::text::{type_}" for at, type_ in enumerate(types))
            conditions.append(f"({', '.join(self._key)}) > ({places})")
        condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = ", ".join(self._key)
        return f"""
            SELECT {columns}
              FROM (SELECT * FROM {table} {condition} ORDER BY {order} LIMIT $1) AS step
            {joins}
             ORDER BY {", ".join(f"step.{name}" for name in self._key)}
        """


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A live session, and the database's time as it was read."""

    session: Session
    now: datetime


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer, and what its session asks; `edition` is None if there is no such session.

    `version` is None in rows of an earlier release.
    """

    user_id: str
    session_id: SessionId
    question_id: str
    attempt: int
    choice: str
    correct: bool
    answered_at: datetime
    version: int | None
    edition: EditionKey | None
    drawn: Sequence[int] | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key, and its stored answer; None if it was aborted, or is not of one of the wanted methods."""

    user_id: str
    method: str
    key: str
    created_at: datetime
    response: bytes | None


def _stored_answer(row: asyncpg.Record) -> StoredAnswer:
    known = row["revision"] is not None
    return from_row(StoredAnswer, row, edition=edition_key(row) if known else None)


LIVE_SESSIONS = Listing(
    lambda row: LiveSession(session_from(row), row["now"]),
    table="sessions",
    key="user_id text, test_id text, session_id uuid",
    columns=f"clock_timestamp() AS now, {names(SESSION, of='step')}",
    where=LIVE,
)
"""Along the index of live sessions."""
ALL_SESSIONS = Listing(
    session_from, table="sessions", key="user_id text, session_id uuid", columns=names(SESSION, of="step")
)
JUDGED_ANSWERS = Listing(
    _stored_answer,
    table="answers",
    key="user_id text, session_id uuid, question_id text, attempt integer",
    columns="""
        step.user_id, step.session_id, step.question_id, step.attempt, step.choice, step.correct,
        step.answered_at, step.version, session.test_id, session.revision, session.drawn
    """,
    # An answer without a session is found by another check.
    joins="""
        LEFT JOIN LATERAL (
             SELECT test_id, revision, drawn
               FROM sessions
              WHERE user_id = step.user_id AND session_id = step.session_id
              LIMIT 1
             ) AS session ON true
    """,
)


def keys_of(methods: Collection[str]) -> Listing[StoredKey]:
    """All stored keys, with the responses of these methods."""
    wanted = ", ".join(f"'{method}'" for method in sorted(methods))
    return Listing(
        lambda row: from_row(StoredKey, row),
        table="idempotency_keys",
        key="user_id text, method text, key text",
        columns=f"""
            step.user_id, step.method, step.key, step.created_at,
            CASE WHEN step.method IN ({wanted}) THEN step.response END AS response
        """,
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """A session, and its row with all its columns."""

    session: Session
    row: dict[str, Any]


async def sessions_by_key(connection: Connection, keys: Collection[SessionKey]) -> dict[SessionKey, Kept]:
    """These sessions; those that do not exist are absent."""
    rows = await connection.fetch(_SESSIONS_BY_KEY, as_rows([key._asdict() for key in sorted(set(keys))]))
    kept = [Kept(session_from(row), orjson.loads(row["kept"])) for row in rows]
    return {each.session.key: each for each in kept}


async def keys_of_learner(connection: Connection, user_id: str) -> list[SessionKey]:
    """The answered sessions of a learner that were not handed in, the newest first; a bounded number."""
    rows = await connection.fetch(_KEYS_OF_LEARNER, user_id, SESSIONS_OF_LEARNER_MAX)
    return [SessionKey(row["user_id"], row["session_id"]) for row in rows]


async def known_sessions(connection: Connection, keys: Collection[SessionKey]) -> set[SessionKey]:
    """Those of these keys that have a session."""
    rows = await connection.fetch(_KNOWN_SESSIONS, as_rows([key._asdict() for key in sorted(set(keys))]))
    return {SessionKey(row["user_id"], row["session_id"]) for row in rows}


async def kept_histories(
    connection: Connection, keys: Collection[SessionKey], *, retention: timedelta
) -> set[SessionKey]:
    """Those of these sessions of which no answer can have been purged."""
    rows = await connection.fetch(
        f"""
        SELECT session.user_id, session.session_id
          FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
          JOIN sessions AS session USING (user_id, session_id)
         WHERE {history_is_kept("session", retention)}
        """,
        as_rows([key._asdict() for key in sorted(set(keys))]),
    )
    return {SessionKey(row["user_id"], row["session_id"]) for row in rows}


async def events_under_way(
    connection: Connection, events: Collection[tuple[str, UUID]]
) -> set[tuple[str, UUID]]:
    """Those of these events, by user and id, that are in the outbox; parked ones, too."""
    wanted = [{"user_id": user_id, "event_id": event_id} for user_id, event_id in sorted(set(events))]
    rows = await connection.fetch(_EVENTS_UNDER_WAY, as_rows(wanted))
    return {(row["user_id"], row["event_id"]) for row in rows}


async def answers_of(connection: Connection, keys: Collection[SessionKey]) -> list[dict[str, Any]]:
    """The answers of these sessions, whole rows, by session, question and attempt."""
    rows = await connection.fetch(_ANSWERS_OF, as_rows([key._asdict() for key in sorted(set(keys))]))
    return [orjson.loads(row["kept"]) for row in rows]


_KEYS_OF_LEARNER = """
    SELECT user_id, session_id
      FROM sessions
     WHERE user_id = $1 AND answered > 0 AND state <> 'completed'
     ORDER BY started_at DESC
     LIMIT $2
"""
_SESSIONS_BY_KEY = f"""
    SELECT {names(SESSION, of="session")}, session.kept
      FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
     CROSS JOIN LATERAL (
           SELECT {SESSION_COLUMNS}, to_jsonb(sessions) AS kept
             FROM sessions
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
           ) AS session
"""
_KNOWN_SESSIONS = """
    SELECT session.user_id, session.session_id
      FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
     CROSS JOIN LATERAL (
           SELECT user_id, session_id
             FROM sessions
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
           ) AS session
"""
_EVENTS_UNDER_WAY = """
    SELECT event.user_id, event.event_id
      FROM json_to_recordset($1) AS wanted (user_id text, event_id uuid)
     CROSS JOIN LATERAL (
           SELECT user_id, event_id
             FROM outbox
            WHERE user_id = wanted.user_id AND event_id = wanted.event_id
            LIMIT 1
           ) AS event
"""
_ANSWERS_OF = """
    SELECT to_jsonb(answers) AS kept
      FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
      JOIN answers USING (user_id, session_id)
     ORDER BY answers.user_id, answers.session_id, answers.question_id, answers.attempt
"""
