"""Holds by their names, for the comparison with the sessions that they pay for."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows
from subscription_service.domain.holds import Hold, HoldReference
from subscription_service.store.hold_rows import HOLD_COLUMNS, hold_from


class HoldCheckStore:
    """Reads holds."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def find_holds(self, items: Sequence[Item[Sequence[HoldReference]]]) -> list[list[Hold]]:
        """Those of these holds that exist, for each request."""
        return [await self._find(item) for item in items]

    async def _find(self, item: Item[Sequence[HoldReference]]) -> list[Hold]:
        async def work(connection: Connection) -> list[Hold]:
            rows = await connection.fetch(_FIND_HOLDS, as_rows(item.request))
            return [hold_from(row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="find_holds")


# The LIMIT makes each lookup one probe of the primary key, whatever plan was made when the table was small.
_FIND_HOLDS = f"""
    SELECT hold.*
      FROM json_to_recordset($1) AS wanted (user_id text, hold_id uuid)
     CROSS JOIN LATERAL (
           SELECT {HOLD_COLUMNS}
             FROM holds
            WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
            LIMIT 1
           ) AS hold
"""
