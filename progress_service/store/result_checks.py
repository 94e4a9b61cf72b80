"""Recorded results, for the comparison with the sessions that they are of."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, from_row, names
from chassis.rpc.paging import Page
from progress_service.domain.result_checks import RecordedResult, ResultsQuery
from progress_service.domain.statistics import ResultKey


class ResultCheckStore:
    """Reads results, along their primary key. Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_results(self, items: Sequence[Item[Sequence[ResultKey]]]) -> list[list[RecordedResult]]:
        """Those of these results that are recorded, for each request."""
        return [await self._find(item) for item in items]

    async def list_results(self, item: Item[ResultsQuery], page: Page) -> list[RecordedResult]:
        """Results by user and session."""
        user_id, after = item.request.user_id, item.request.after
        place = tuple(map(str, page.after)) if page.after is not None else after

        async def work(connection: Connection) -> list[RecordedResult]:
            if user_id:
                session_id = place[1] if place is not None else ""
                rows = await connection.fetch(_LIST_OF_LEARNER, user_id, session_id, page.limit)
            else:
                rows = await connection.fetch(_LIST, *(place or ("", "")), page.limit)
            return [from_row(RecordedResult, row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_results")

    async def _find(self, item: Item[Sequence[ResultKey]]) -> list[RecordedResult]:
        keys = [key._asdict() for key in item.request]

        async def work(connection: Connection) -> list[RecordedResult]:
            rows = await connection.fetch(_FIND, as_rows(keys))
            return [from_row(RecordedResult, row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="find_results")


_COLUMNS = names("""
    user_id text, session_id text, completed boolean, answered integer, total integer, answers integer,
    correct integer, passed boolean, xp integer, recorded_at timestamptz
""")
# The LIMIT makes each lookup one probe of the primary key, whatever plan was made when the table was small.
_FIND = f"""
    SELECT result.*
      FROM json_to_recordset($1) AS wanted (user_id text, session_id text)
     CROSS JOIN LATERAL (
           SELECT {_COLUMNS}
             FROM session_results
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
           ) AS result
"""
_LIST = f"""
    SELECT {_COLUMNS}
      FROM session_results
     WHERE (user_id, session_id) > ($1, $2)
     ORDER BY user_id, session_id
     LIMIT $3
"""
_LIST_OF_LEARNER = f"""
    SELECT {_COLUMNS}
      FROM session_results
     WHERE user_id = $1 AND session_id > $2
     ORDER BY session_id
     LIMIT $3
"""
