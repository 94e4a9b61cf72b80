"""A learner's attempts at one test."""

from __future__ import annotations

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.rows import from_row
from chassis.rpc.paging import Page
from session_service.domain.attempts import AttemptSummary
from session_service.domain.sessions import Session, as_of
from session_service.store.session_rows import SESSION_COLUMNS, USES_ATTEMPT, session_from

ATTEMPT_MAX = 2**31 - 1


class AttemptStore:
    """Reads attempts. All statements go along `sessions_attempt_once`."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def get_summary(self, item: Item[str]) -> AttemptSummary | None:
        """The caller's attempts at this test in sum; None if there is no such test."""

        async def work(connection: Connection) -> AttemptSummary | None:
            row = await connection.fetchrow(_GET_SUMMARY, item.user_id, item.request)
            return None if row is None else from_row(AttemptSummary, row)

        return await self._database.read(work, deadline=item.deadline, name="get_attempts")

    async def list_attempts(self, item: Item[str], page: Page) -> list[Session]:
        """The caller's sessions of this test that use an attempt, the latest first."""
        (before,) = page.after or (ATTEMPT_MAX,)

        async def work(connection: Connection) -> list[Session]:
            rows = await connection.fetch(_LIST_ATTEMPTS, item.user_id, item.request, before, page.limit)
            return [as_of(session_from(row), row["now"]) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_attempts")


_GET_SUMMARY = f"""
    SELECT tests.test_id, definition.max_attempts, theirs.used, theirs.best_score
      FROM tests
      JOIN test_revisions AS definition USING (test_id, revision)
     CROSS JOIN (
           SELECT count(*)::integer AS used, max(score) FILTER (WHERE closed_at IS NOT NULL) AS best_score
             FROM sessions
            WHERE user_id = $1 AND test_id = $2 AND {USES_ATTEMPT}
           ) AS theirs
     WHERE tests.test_id = $2
"""

_LIST_ATTEMPTS = f"""
    SELECT now() AS now, {SESSION_COLUMNS}
      FROM sessions
     WHERE user_id = $1 AND test_id = $2 AND attempt < $3 AND {USES_ATTEMPT}
     ORDER BY attempt DESC
     LIMIT $4
"""
