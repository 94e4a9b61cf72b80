"""The signs of life of sessions: one statement for a batch, the narrowest and most frequent of all writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import asyncpg

from chassis.postgres import PATIENCE, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.rows import as_rows, from_row
from session_service.domain.presence import Heartbeat, Presence
from session_service.domain.sessions import SessionKey
from session_service.domain.states import SessionState
from session_service.domain.timing import TimeRules
from session_service.store.session_rows import LIVE


class PresenceStore:
    """Writes what pages tell of themselves."""

    def __init__(self, *, database: Database, times: TimeRules) -> None:
        self._database = database
        self._times = times

    async def record_heartbeats(
        self, beats: Mapping[SessionKey, Heartbeat], *, wait: bool, deadline: float
    ) -> dict[SessionKey, Presence | Locked]:
        """Count one heartbeat for each of these sessions; those that do not exist are absent.

        A heartbeat changes a live session, if its `seq` is above the earlier ones. The time since the last
        sign of life is engaged time if the page is visible and the session is not paused, up to twice the
        heartbeat interval. Without `wait`, a session that another transaction has locked is passed over.

        Raises LockTimeout and OutcomeUnknown.
        """
        rows = [
            {"user_id": key.user_id, "session_id": key.session_id, "seq": beat.seq, "visible": beat.visible}
            for key, beat in sorted(beats.items())
        ]
        return await self._write(
            _RECORD_HEARTBEATS if wait else _RECORD_FREE_HEARTBEATS,
            rows,
            2 * self._times.heartbeat_interval,
            self._times.lease,
            deadline=deadline,
            name="record_heartbeats",
        )

    async def leave_sessions(
        self, keys: Collection[SessionKey], *, wait: bool, deadline: float
    ) -> dict[SessionKey, Presence | Locked]:
        """Note that the pages of these sessions are being closed; sessions that do not exist are absent.

        Locks, and raises, like `record_heartbeats`.
        """
        return await self._write(
            _LEAVE_SESSIONS if wait else _LEAVE_FREE_SESSIONS,
            [key._asdict() for key in sorted(keys)],
            self._times.left_lease,
            deadline=deadline,
            name="leave_sessions",
        )

    async def renew_leases(self, keys: Collection[SessionKey], *, deadline: float) -> None:
        """Note a sign of life of these sessions. One that is locked shows life already, or is ending."""
        await self._database.execute_write(
            _RENEW_LEASES,
            as_rows([key._asdict() for key in sorted(keys)]),
            deadline=deadline,
            name="renew_leases",
        )

    async def _write(
        self, sql: str, rows: list[dict[str, Any]], *arguments: object, deadline: float, name: str
    ) -> dict[SessionKey, Presence | Locked]:
        found = await self._database.execute_write(
            sql, as_rows(rows), self._times.grace, *arguments, deadline=deadline, name=name
        )
        return {SessionKey(row["user_id"], row["session_id"]): _presence_from(row) for row in found}


def _presence_from(row: asyncpg.Record) -> Presence | Locked:
    if row["state"] is None:
        return Locked.HELD_BY_ANOTHER
    return from_row(Presence, row, state=SessionState(row["state"]))


_BEATS = """
    json_to_recordset($1) AS wanted (user_id text, session_id uuid, seq integer, visible boolean)
"""
_SESSIONS = """
    json_to_recordset($1) AS wanted (user_id text, session_id uuid)
"""


def _judged(source: str, lock: str) -> str:
    """The rows of a source, locked in their order, with the state that they have now; see `as_of`."""
    return f"""
        {PATIENCE}, locked AS MATERIALIZED (
            SELECT wanted.*, session.*, clock_timestamp() AS now
              FROM {source}
             CROSS JOIN patience
             CROSS JOIN LATERAL (
                   SELECT state AS stored_state, closed_at, answered, engaged_seconds, heartbeat_seq,
                          started_at, seen_at, deadline_at, pause_until
                     FROM sessions
                    WHERE user_id = wanted.user_id AND session_id = wanted.session_id
                      AND patience.lock_timeout IS NOT NULL
                    LIMIT 1
                      FOR NO KEY UPDATE {lock}
                   ) AS session
        ), judged AS MATERIALIZED (
            SELECT locked.*, CASE WHEN closed_at IS NULL AND deadline_at <= now - $2::interval THEN 'expired'
                                  WHEN stored_state = 'paused' AND pause_until <= now THEN 'active'
                                  ELSE stored_state
                             END AS state
              FROM locked
        )
    """


# A session that exists, and of which nothing is told, is locked by another transaction.
_TELL = """
    SELECT wanted.user_id, wanted.session_id, told.state, told.deadline_at, told.engaged_seconds, told.seq,
           told.counted
      FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
     CROSS JOIN LATERAL (
           SELECT true
             FROM sessions
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
           ) AS known
      LEFT JOIN told USING (user_id, session_id)
"""


def _record_heartbeats(lock: str) -> str:
    return f"""
        WITH {_judged(_BEATS, lock)},
        counted AS MATERIALIZED (
            SELECT user_id, session_id, state, deadline_at, now, engaged_seconds, heartbeat_seq, seq,
                   {LIVE} AND seq > coalesce(heartbeat_seq, 0) AS counts,
                   CASE WHEN visible AND state = 'active'
                        THEN least(
                                 greatest(
                                     now - greatest(coalesce(seen_at, started_at), pause_until), interval '0'
                                 ),
                                 $3::interval
                             )
                        ELSE interval '0'
                   END AS gained
              FROM judged
        ), told AS (
            SELECT user_id, session_id, state, deadline_at,
                   CASE WHEN counts
                        THEN engaged_seconds + extract(epoch FROM gained)::double precision
                        ELSE engaged_seconds
                   END AS engaged_seconds,
                   CASE WHEN counts THEN seq ELSE coalesce(heartbeat_seq, 0) END AS seq,
                   counts AS counted
              FROM counted
        ), changed AS (
            UPDATE sessions
               SET engaged_seconds = told.engaged_seconds, heartbeat_seq = told.seq, seen_at = counted.now,
                   lease_check_at = CASE WHEN lease_check_at IS NULL AND answered = 0
                                         THEN counted.now + $4::interval
                                         ELSE lease_check_at
                                    END
              FROM counted
              JOIN told USING (user_id, session_id)
             WHERE counted.counts
               AND sessions.user_id = counted.user_id AND sessions.session_id = counted.session_id
        )
        {_TELL}
    """


def _leave_sessions(lock: str) -> str:
    return f"""
        WITH {_judged(_SESSIONS, lock)},
        told AS (
            SELECT user_id, session_id, state, deadline_at, engaged_seconds,
                   coalesce(heartbeat_seq, 0) AS seq, false AS counted
              FROM judged
        ), changed AS (
            UPDATE sessions
               SET left_at = judged.now,
                   lease_check_at = CASE WHEN sessions.answered = 0
                                         THEN least(lease_check_at, judged.now + $3::interval)
                                         ELSE lease_check_at
                                    END
              FROM judged
             WHERE judged.{LIVE}
               AND sessions.user_id = judged.user_id AND sessions.session_id = judged.session_id
        )
        {_TELL}
    """


_RECORD_HEARTBEATS, _RECORD_FREE_HEARTBEATS = map(_record_heartbeats, ("", "SKIP LOCKED"))
_LEAVE_SESSIONS, _LEAVE_FREE_SESSIONS = map(_leave_sessions, ("", "SKIP LOCKED"))

_RENEW_LEASES = f"""
    UPDATE sessions
       SET seen_at = clock_timestamp()
      FROM (
           SELECT session.user_id, session.session_id
             FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
            CROSS JOIN LATERAL (
                  SELECT user_id, session_id
                    FROM sessions
                   WHERE user_id = wanted.user_id AND session_id = wanted.session_id AND {LIVE}
                   LIMIT 1
                     FOR NO KEY UPDATE SKIP LOCKED
                  ) AS session
           ) AS back
     WHERE sessions.user_id = back.user_id AND sessions.session_id = back.session_id
"""
