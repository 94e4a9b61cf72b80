"""Deletes the records of sessions that ended long ago, a bounded number of rows at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows
from session_service.store.session_rows import ENDED

SESSIONS_PER_PURGE = 100
ROWS_PER_PURGE = 5000

_BEGINNING = (datetime(2000, 1, 1, tzinfo=UTC), "", UUID(int=0))


class PurgedTable(StrEnum):
    """The tables that only grow. The sessions themselves stay."""

    ANSWERS = "answers"
    SESSION_EVENTS = "session_events"


class Purged(NamedTuple):
    """What one step has deleted, and whether there is more to delete."""

    rows: int
    more: bool


class PurgeStore:
    """Goes along the ends of sessions, behind a watermark for each table; a live session has no end."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def purge(self, table: PurgedTable, *, older_than: timedelta, deadline: float) -> Purged:
        """Delete rows of the sessions that ended the longest ago, if that is at least `older_than` ago.

        The watermark moves in the same transaction, when all rows of these sessions are deleted. Nothing is
        done while another replica is at work on this table.
        """

        async def work(connection: Connection) -> Purged:
            await connection.execute(_ADD_WATERMARK, table, *_BEGINNING)
            watermark = await connection.fetchrow(_LOCK_WATERMARK, table)
            if watermark is None:
                return Purged(0, more=False)
            ended = await connection.fetch(_LIST_ENDED, older_than, *watermark, SESSIONS_PER_PURGE)
            if not ended:
                return Purged(0, more=False)
            keys = as_rows([{"user_id": row["user_id"], "session_id": row["session_id"]} for row in ended])
            deleted = await connection.fetch(_DELETE[table], keys, ROWS_PER_PURGE)
            if len(deleted) == ROWS_PER_PURGE:
                return Purged(len(deleted), more=True)
            await connection.execute(_MOVE_WATERMARK, table, *ended[-1])
            return Purged(len(deleted), more=len(ended) == SESSIONS_PER_PURGE)

        return await self._database.write(work, deadline=deadline, name="purge_records")


_ADD_WATERMARK = """
    INSERT INTO purge_watermarks (table_name, closed_at, user_id, session_id)
    VALUES ($1, $2, $3, $4)
        ON CONFLICT ON CONSTRAINT purge_watermarks_once DO NOTHING
"""

_LOCK_WATERMARK = """
    SELECT closed_at, user_id, session_id
      FROM purge_watermarks
     WHERE table_name = $1
       FOR UPDATE SKIP LOCKED
"""

_MOVE_WATERMARK = """
    UPDATE purge_watermarks
       SET closed_at = $2, user_id = $3, session_id = $4
     WHERE table_name = $1
"""

_LIST_ENDED = f"""
    SELECT closed_at, user_id, session_id
      FROM sessions
     WHERE {ENDED} AND closed_at < now() - $1::interval
       AND (closed_at, user_id, session_id) > ($2, $3, $4)
     ORDER BY closed_at, user_id, session_id
     LIMIT $5
"""


def _delete_from(table: PurgedTable) -> str:
    """The statement that deletes rows of these sessions, along the primary key."""
    return f"""
        DELETE FROM {table}
         WHERE ctid = ANY (ARRAY(
               SELECT old.ctid
                 FROM json_to_recordset($1) AS ended (user_id text, session_id uuid)
                CROSS JOIN LATERAL (
                      SELECT ctid
                        FROM {table}
                       WHERE user_id = ended.user_id AND session_id = ended.session_id
                       LIMIT $2
                      ) AS old
                LIMIT $2))
        RETURNING 1
    """


_DELETE = {table: _delete_from(table) for table in PurgedTable}
