"""The changes of runs: those that are planned, and how each of them ended."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from chassis.batch import Item
from chassis.batch import Outcome as Answer
from chassis.context import Claim
from chassis.postgres import Connection, Database, idempotency
from chassis.postgres.idempotency import StoredResponse
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render, write_keyed
from chassis.postgres.rows import from_row
from chassis.rpc.paging import Page
from progress_service.domain.desyncs import Action, Kind
from progress_service.domain.sync_runs import Change, Order, Outcome, Report, Run, RunId
from progress_service.store.sync_runs import CHANGE_ROW, SELECT_RUN, change_rows, run_from

_CHANGE_COLUMNS = """
    user_id, specialization, kind, action, outcome, progress_before, license_before, progress_after,
    license_after, license_epoch, reason
"""

_PLANNED = f"""
    SELECT {_CHANGE_COLUMNS}
      FROM sync_changes
     WHERE run_id = $1 AND outcome = 'planned'
     LIMIT $2
"""

# A change ends once: whoever comes second finds that it is not planned any more, and counts nothing.
_END = f"""
    WITH ended AS (
        UPDATE sync_changes AS change
           SET outcome = told.outcome, progress_before = told.progress_before,
               license_before = told.license_before, progress_after = told.progress_after,
               license_after = told.license_after, reason = told.reason, changed_at = clock_timestamp()
          FROM json_to_recordset($2) AS told ({CHANGE_ROW})
         WHERE change.user_id = told.user_id AND change.run_id = told.run_id
           AND change.specialization = told.specialization AND change.outcome = 'planned'
        RETURNING change.outcome
    ), counted AS (
        SELECT count(*) AS ended,
               count(*) FILTER (WHERE outcome = 'applied') AS applied,
               count(*) FILTER (WHERE outcome = 'unchanged') AS unchanged,
               count(*) FILTER (WHERE outcome = 'needs_decision') AS needs_decision,
               count(*) FILTER (WHERE outcome = 'failed') AS failed
          FROM ended
    )
    UPDATE sync_runs AS run
       SET planned = run.planned - counted.ended, applied = run.applied + counted.applied,
           unchanged = run.unchanged + counted.unchanged,
           needs_decision = run.needs_decision + counted.needs_decision, failed = run.failed + counted.failed
      FROM counted
     WHERE run.run_id = $1
"""

_LOCK_RUN = "SELECT FROM sync_runs WHERE run_id = $1 FOR UPDATE"

_LIST = f"""
    SELECT {_CHANGE_COLUMNS}
      FROM sync_changes
     WHERE run_id = $1 AND (specialization COLLATE "C", user_id COLLATE "C") > ($2, $3)
     ORDER BY specialization COLLATE "C", user_id COLLATE "C"
     LIMIT $4
"""


class SyncChangeStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def select_planned(self, run_id: RunId, *, limit: int, deadline: float) -> list[Change]:
        """Changes of this run that are still to be carried out."""

        async def work(connection: Connection) -> list[Change]:
            return [_change(row) for row in await connection.fetch(_PLANNED, run_id, limit)]

        return await self._database.read(work, deadline=deadline, name="select_planned_changes")

    async def end(self, run_id: RunId, changes: Sequence[Change], *, deadline: float) -> None:
        """Store how these changes ended; one that has ended before stays as it is."""
        if changes:
            await self._database.execute_write(
                _END, run_id, change_rows(run_id, changes), deadline=deadline, name="end_changes"
            )

    async def find_answers(
        self, items: Sequence[Item[Order]], *, deadline: float
    ) -> dict[Claim, StoredResponse]:
        """The stored answers of these orders' keys; unused keys are absent."""

        async def work(connection: Connection) -> dict[Claim, StoredResponse]:
            return await idempotency.find(connection, [item.claim for item in items])

        return await self._database.read(work, deadline=deadline, name="find_sync_answers")

    async def answer(self, item: Item[Order], *, changes_max: int, render: Render[Report]) -> Answer | Locked:
        """Answer an order with its run as it is now, and store the answer with the order's key.

        The run exists. Another request with the same key waits for its row; it then gets the same answer.
        """

        async def lock(connection: Connection, items: Sequence[Item[Order]]) -> None:
            for each in items:
                await connection.execute(_LOCK_RUN, each.request.run_id)

        async def change(connection: Connection, _: None, items: Sequence[Item[Order]]) -> list[Report]:
            return [await _report(connection, each.request.run_id, changes_max) for each in items]

        (answer,) = await write_keyed(
            self._database, [item], lock=lock, change=change, render=render, name="answer_sync_order"
        )
        return answer

    async def list_changes(self, item: Item[RunId], page: Page) -> list[Change]:
        """The changes of a run, by specialization, then by learner."""
        name, learner = map(str, page.after or ("", ""))

        async def work(connection: Connection) -> list[Change]:
            return await _changes_of(connection, item.request, name, learner, page.limit)

        return await self._database.read(work, deadline=item.deadline, name="list_sync_changes")

    async def list_runs(self, item: Item[None], page: Page) -> list[Run]:
        """Runs, the newest first."""
        started_at, run_id = page.after or (None, None)

        async def work(connection: Connection) -> list[Run]:
            rows = await connection.fetch(
                f"""
                {SELECT_RUN}
                 WHERE $1::text IS NULL OR (started_at, run_id) < ($1::text::timestamptz, $2::text::uuid)
                 ORDER BY started_at DESC, run_id DESC
                 LIMIT $3
                """,
                started_at,
                run_id,
                page.limit,
            )
            return [run_from(row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_sync_runs")


async def end_changes(connection: Connection, run_id: RunId, changes: Sequence[Change]) -> None:
    """The same as `SyncChangeStore.end`, inside the caller's transaction."""
    if changes:
        await connection.execute(_END, run_id, change_rows(run_id, changes))


async def _report(connection: Connection, run_id: RunId, changes_max: int) -> Report:
    (row,) = await connection.fetch(f"{SELECT_RUN} WHERE run_id = $1", run_id)
    return Report(run_from(row), await _changes_of(connection, run_id, "", "", changes_max))


async def _changes_of(
    connection: Connection, run_id: RunId, name: str, learner: str, limit: int
) -> list[Change]:
    return [_change(row) for row in await connection.fetch(_LIST, run_id, name, learner, limit)]


def _change(row: asyncpg.Record) -> Change:
    return from_row(
        Change,
        row,
        kind=Kind(row["kind"]),
        action=Action(row["action"]),
        outcome=Outcome(row["outcome"]),
    )
