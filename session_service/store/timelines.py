"""Timelines of sessions: read as one list from the session, its answers, and its events."""

from __future__ import annotations

import asyncpg

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.rows import from_row
from chassis.rpc.paging import Page
from session_service.domain.timeline import ENDS, EventKind, TimelineEntry, TimelineRequest
from session_service.store.session_rows import close_reason_from


class TimelineStore:
    """Reads timelines."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def list_entries(self, item: Item[TimelineRequest], page: Page) -> list[TimelineEntry]:
        """The entries of one session in their order; none if the learner has no such session.

        A page reads all answers of the session: an index in their order would cost every answer more than the
        few readers of timelines save.
        """
        version, number = page.after or (0, 0)
        wanted = item.request

        async def work(connection: Connection) -> list[TimelineEntry]:
            rows = await connection.fetch(
                _LIST_ENTRIES, wanted.user_id, wanted.session_id, version, number, page.limit
            )
            return list(map(_entry_from, rows))

        return await self._database.read(work, deadline=item.deadline, name="list_timeline")


def _entry_from(row: asyncpg.Record) -> TimelineEntry:
    kind, reason = EventKind(row["kind"]), row["reason"]
    if kind in ENDS:
        reason = close_reason_from(reason)
    return from_row(TimelineEntry, row, kind=kind, reason=reason)


_NO_ANSWER = """
    NULL::text AS question_id, NULL::integer AS attempt, NULL::text AS choice, NULL::boolean AS correct,
    NULL::timestamptz AS occurred_at, NULL::boolean AS occurred_at_clamped
"""

# A session that ended under an earlier release, or so long ago that its events are purged, has no event for
# its end: its own row tells it, before the refusals that came later. Answers of an earlier release have no
# version: time orders them.
_LIST_ENTRIES = f"""
    WITH session AS (
        SELECT user_id, session_id, version, state, started_at, start_request_id, start_trace_id, closed_at,
               close_reason
          FROM sessions
         WHERE user_id = $1 AND session_id = $2
    ), entries AS (
        SELECT 'started' AS kind, 1 AS version, 0 AS number, started_at AS happened_at, user_id AS actor_id,
               coalesce(start_request_id, '') AS request_id, start_trace_id AS trace_id, '' AS reason,
               '' AS note, {_NO_ANSWER}
          FROM session
        UNION ALL
        SELECT 'answered', coalesce(version, 1),
               CASE WHEN version IS NULL
                    THEN row_number() OVER (
                         PARTITION BY version
                         ORDER BY answered_at, question_id, attempt)::integer
                    ELSE 0
               END,
               answered_at, user_id, coalesce(request_id, ''), trace_id, '', '', question_id, attempt, choice,
               correct, occurred_at, occurred_at_clamped
          FROM answers
         WHERE user_id = $1 AND session_id = $2
        UNION ALL
        SELECT kind, version, number, happened_at, actor_id, request_id, trace_id, reason, note, {_NO_ANSWER}
          FROM session_events
         WHERE user_id = $1 AND session_id = $2
        UNION ALL
        SELECT state, version, 0, closed_at, '', '', NULL, close_reason, '', {_NO_ANSWER}
          FROM session
         WHERE closed_at IS NOT NULL
           AND NOT EXISTS (SELECT 1
                             FROM session_events
                            WHERE user_id = $1 AND session_id = $2 AND kind = session.state)
    )
    SELECT kind, version, number, happened_at, actor_id, request_id, trace_id, reason, note, question_id,
           attempt, choice, correct, occurred_at, occurred_at_clamped
      FROM entries
     WHERE (version, number) > ($3, $4)
     ORDER BY version, number
     LIMIT $5
"""
