"""What has changed in the sessions of learners, in one statement of index probes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, from_row
from session_service.domain.changes import (
    SESSIONS_TOLD_MAX,
    SessionChange,
    SessionChanges,
    SessionPosition,
    newer,
)
from session_service.domain.states import SessionState
from session_service.store.session_rows import LIVE

# A session gets its id, which tells its time, before it is committed, and by the clock of another process.
RECENT_SECONDS = 60


class SessionChangeStore:
    """Reads the changes of sessions."""

    def __init__(self, *, database: Database, grace: timedelta) -> None:
        self._database = database
        self._grace = grace

    async def read_changes(
        self, positions: Sequence[SessionPosition], *, deadline: float
    ) -> list[SessionChanges]:
        """What is newer than each of these positions, in their order; raises what `Database` raises."""
        rows = as_rows(
            [
                {
                    "place": place,
                    "user_id": position.user_id,
                    "since": position.since,
                    "known": list(map(str, position.known)),
                }
                for place, position in enumerate(positions)
            ]
        )

        async def work(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(_READ_CHANGES, rows, self._grace)

        found = await self._database.read(work, deadline=deadline, name="read_session_changes")
        changes: list[list[SessionChange]] = [[] for _ in positions]
        for row in found:
            if row["session_id"] is not None:
                change = from_row(SessionChange, row, state=SessionState(row["state"]))
                changes[row["place"]].append(change)
        as_of = found[0]["now"]
        return [
            SessionChanges(as_of, newer(position, theirs))
            for position, theirs in zip(positions, changes, strict=True)
        ]


_COLUMNS = "session_id, test_id, state, version, deadline_at, pause_until"
# The three parts may name the same session. Each goes along an index of its own, whatever a learner's history
# is. The least id of a time is that of UUID version 7 (RFC 9562, 5.7).
_READ_CHANGES = f"""
    WITH clock AS MATERIALIZED (SELECT now() AS now)
    SELECT clock.now, wanted.place, session.session_id, session.test_id, session.version,
           CASE WHEN {LIVE} AND session.deadline_at <= clock.now - $2::interval THEN 'expired'
                WHEN session.state = 'paused' AND session.pause_until <= clock.now THEN 'active'
                ELSE session.state
           END AS state
      FROM clock
     CROSS JOIN json_to_recordset($1) AS wanted (place integer, user_id text, since timestamptz, known uuid[])
      LEFT JOIN LATERAL (
           (SELECT {_COLUMNS}
              FROM sessions
             WHERE user_id = wanted.user_id
               AND session_id >= (
                   lpad(
                       to_hex(floor(1000 * extract(epoch FROM coalesce(wanted.since, clock.now)
                                                              - interval '{RECENT_SECONDS} s'))::bigint),
                       12, '0'
                   ) || '00000000000000000000'
               )::uuid
             ORDER BY session_id DESC
             LIMIT {SESSIONS_TOLD_MAX})
           UNION ALL
           (SELECT {_COLUMNS}
              FROM sessions
             WHERE user_id = wanted.user_id AND {LIVE}
             ORDER BY session_id DESC
             LIMIT {SESSIONS_TOLD_MAX})
           UNION ALL
           (SELECT {_COLUMNS}
              FROM sessions
             WHERE user_id = wanted.user_id AND session_id = ANY(wanted.known)
             LIMIT {SESSIONS_TOLD_MAX})
           ) AS session ON true
"""
