"""A learner's attempts at one test."""

from __future__ import annotations

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.rows import from_row
from session_service.domain.attempts import AttemptSummary
from session_service.store.session_rows import USES_ATTEMPT


class AttemptStore:
    """Reads what a learner's attempts come to, along `sessions_attempt_once`."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def get_summary(self, item: Item[str]) -> AttemptSummary | None:
        """The caller's attempts at this test in sum; None if there is no such test."""

        async def work(connection: Connection) -> AttemptSummary | None:
            row = await connection.fetchrow(_GET_SUMMARY, item.user_id, item.request)
            return None if row is None else from_row(AttemptSummary, row)

        return await self._database.read(work, deadline=item.deadline, name="get_attempts")


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
