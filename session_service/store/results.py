"""The results of a test, read from its ended sessions along `sessions_ended_of_test`."""

from __future__ import annotations

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.rows import from_row
from chassis.rpc.paging import PAGE_SIZE_MAX, Page
from session_service.domain.results import LearnerResult
from session_service.store.session_rows import ENDED, USES_ATTEMPT


class ResultStore:
    """Reads results."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def list_results(self, item: Item[str], page: Page) -> list[LearnerResult] | None:
        """The results of this test in the order of the learners; None if there is no such test."""
        (after,) = page.after or ("",)

        async def work(connection: Connection) -> list[LearnerResult] | None:
            rows = await connection.fetch(_LIST_RESULTS, item.request, after, page.limit)
            if not rows and not await connection.fetchval(_TEST_EXISTS, item.request):
                return None
            return [from_row(LearnerResult, row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_results")


# The form is for the planner. If it saw the values, it would plan each call anew, because it takes the
# general plan for much dearer in a large store; that took longer than the call. The subqueries hide the
# values. The constant limit and the order by both columns keep the general plan on the index.
_LIST_RESULTS = f"""
    SELECT user_id, attempts, best_score, passed, engaged_seconds, last_ended_at
      FROM (
           SELECT test_id, user_id, count(*)::integer AS attempts, max(score) AS best_score,
                  coalesce(bool_or(passed), false) AS passed, sum(engaged_seconds) AS engaged_seconds,
                  max(closed_at) AS last_ended_at
             FROM sessions
            WHERE (test_id, user_id) > ((SELECT $1::text), $2::text) AND test_id <= (SELECT $1::text)
              AND {ENDED} AND {USES_ATTEMPT}
            GROUP BY test_id, user_id
            ORDER BY test_id, user_id
            LIMIT {PAGE_SIZE_MAX + 1}
           ) AS result
     ORDER BY test_id, user_id
     LIMIT (SELECT $3::integer)
"""

_TEST_EXISTS = "SELECT EXISTS (SELECT 1 FROM tests WHERE test_id = $1)"
