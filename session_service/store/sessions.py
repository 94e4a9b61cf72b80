"""Reads of sessions, which change nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, names
from session_service.domain.ids import SessionId
from session_service.domain.moves import as_of
from session_service.domain.papers import Paper
from session_service.domain.sessions import Session, SessionKey
from session_service.domain.tests import Edition
from session_service.store.editions import EditionCache, EditionKey, edition_key
from session_service.store.session_rows import LIVE, SESSION, SESSION_COLUMNS, session_from


class SweepPosition(NamedTuple):
    """Where a sweep is: sessions are ordered by a time (deadline, start, or lease) and their key."""

    time: datetime
    user_id: str
    session_id: SessionId

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.user_id, self.session_id)


class SessionStore:
    """Reads sessions as the clock has made them, also before that is written; see `as_of`."""

    def __init__(self, *, database: Database, editions: EditionCache, grace: timedelta) -> None:
        self._database = database
        self._editions = editions
        self._grace = grace

    async def get_sessions(
        self, wanted: Collection[SessionKey], *, deadline: float
    ) -> dict[SessionKey, tuple[Session, Paper]]:
        """These sessions with what they ask; those that do not exist are absent."""

        async def work(connection: Connection) -> dict[SessionKey, tuple[Session, Paper]]:
            rows = await connection.fetch(_GET_SESSIONS, as_rows([key._asdict() for key in wanted]))
            editions = await self._editions.get(connection, set(map(edition_key, rows)))
            found = [(_as_of(row, editions, self._grace), editions[edition_key(row)]) for row in rows]
            return {session.key: (session, Paper(edition, session.drawn)) for session, edition in found}

        return await self._database.read(work, deadline=deadline, name="get_sessions")

    async def get_editions(
        self, wanted: Collection[EditionKey], *, deadline: float
    ) -> dict[EditionKey, Edition]:
        """What sessions of these revisions ask; revisions that do not exist are absent."""

        async def work(connection: Connection) -> dict[EditionKey, Edition]:
            return await self._editions.get(connection, wanted)

        return await self._database.read(work, deadline=deadline, name="get_editions")

    async def list_overdue(
        self, after: SweepPosition | None, limit: int, *, deadline: float
    ) -> list[SweepPosition]:
        """Live sessions that take nothing any more, the longest overdue first, those behind `after`."""
        return await self._sweep(_LIST_OVERDUE, *(after or _BEGINNING), limit, self._grace, deadline=deadline)

    async def list_idle(
        self, allowed: timedelta, after: SweepPosition | None, limit: int, *, deadline: float
    ) -> list[SweepPosition]:
        """Live sessions without a deadline in which nothing has happened for so long, the oldest first."""
        return await self._sweep(_LIST_IDLE, *(after or _BEGINNING), limit, allowed, deadline=deadline)

    async def list_leases(
        self, after: SweepPosition | None, limit: int, *, deadline: float
    ) -> list[SweepPosition]:
        """Live sessions whose lease has to be looked at, the longest due first, those behind `after`."""
        return await self._sweep(_LIST_LEASES, *(after or _BEGINNING), limit, deadline=deadline)

    async def _sweep(self, sql: str, *arguments: object, deadline: float) -> list[SweepPosition]:
        async def work(connection: Connection) -> Sequence[SweepPosition]:
            return [SweepPosition(*row) for row in await connection.fetch(sql, *arguments)]

        return list(await self._database.read(work, deadline=deadline, name="sweep_sessions"))


async def sessions_as_of(
    connection: Connection, rows: Sequence[asyncpg.Record], *, editions: EditionCache, grace: timedelta
) -> list[Session]:
    """The sessions of rows with SESSION_COLUMNS and `now`, as they are at that moment."""
    overdue = [row for row in rows if session_from(row).overdue(row["now"], grace)]
    needed = await editions.get(connection, set(map(edition_key, overdue)))
    return [_as_of(row, needed, grace) for row in rows]


def _as_of(row: asyncpg.Record, editions: Mapping[EditionKey, Edition], grace: timedelta) -> Session:
    session = session_from(row)
    edition = editions.get(edition_key(row))
    definition = None if edition is None else edition.definition
    return as_of(session, definition, now=row["now"], grace=grace)


_GET_SESSIONS = f"""
    SELECT now() AS now, {names(SESSION, of="session")}
      FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
     CROSS JOIN LATERAL (
           SELECT {SESSION_COLUMNS}
             FROM sessions
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
           ) AS session
"""

# Before every session.
_BEGINNING = SweepPosition(datetime(2000, 1, 1, tzinfo=UTC), "", SessionId(UUID(int=0)))

# The subqueries hide the times and the limit from the planner. It would see that nothing is due, find that
# cheaper than the generic plan, and plan each sweep anew, which takes longer than the sweep.
_LIST_OVERDUE = f"""
    SELECT deadline_at, user_id, session_id
      FROM sessions
     WHERE {LIVE} AND deadline_at <= (SELECT now() - $5::interval)
       AND (deadline_at, user_id, session_id) > ((SELECT $1::timestamptz), $2::text, $3::uuid)
     ORDER BY deadline_at, user_id, session_id
     LIMIT (SELECT $4::integer)
"""

_LIST_LEASES = f"""
    SELECT lease_check_at, user_id, session_id
      FROM sessions
     WHERE {LIVE} AND lease_check_at IS NOT NULL AND lease_check_at <= (SELECT now())
       AND (lease_check_at, user_id, session_id) > ((SELECT $1::timestamptz), $2::text, $3::uuid)
     ORDER BY lease_check_at, user_id, session_id
     LIMIT (SELECT $4::integer)
"""

_LIST_IDLE = f"""
    SELECT started_at, user_id, session_id
      FROM sessions
     WHERE {LIVE} AND deadline_at IS NULL AND started_at <= (SELECT now() - $5::interval)
       AND (last_answer_at IS NULL OR last_answer_at <= (SELECT now() - $5::interval))
       AND (seen_at IS NULL OR seen_at <= (SELECT now() - $5::interval))
       AND (pause_until IS NULL OR pause_until <= (SELECT now() - $5::interval))
       AND (started_at, user_id, session_id) > ((SELECT $1::timestamptz), $2::text, $3::uuid)
     ORDER BY started_at, user_id, session_id
     LIMIT (SELECT $4::integer)
"""
