"""Imports: rows of a file are staged with COPY, and merged learner by learner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Database
from chassis.postgres.errors import LockTimeout
from progress_service.domain.imported_rows import (
    CompletionRow,
    MergedRows,
    ProgressRow,
    Row,
    RowRules,
)
from progress_service.domain.statistics import UserId
from progress_service.store.import_effects import Applied, apply_rows
from progress_service.store.standings import StandingReader

COLUMNS = (
    "user_id",
    "import_id",
    "line",
    "specialization",
    "level",
    "xp",
    "module_id",
    "lesson_id",
    "happened_at",
)
STAGED_DAYS_MAX = 1
STATEMENT_SECONDS_MAX = 9.0
LOCK_TIMEOUT_MS = 2_000
LOCK_ATTEMPTS_MAX = 15
LOCK_PAUSE_SECONDS = 1.0

# The server keeps the plan of a statement. One that was made when the tables were small would read them from
# end to end for each row of the file, and they grow faster than the server gathers statistics.
_PROBE_INDEXES = "SET LOCAL enable_seqscan = off"

_READ = """
    SELECT line, user_id, specialization, level, xp, module_id, lesson_id, happened_at
      FROM import_rows
     WHERE import_id = $1 AND user_id > $2
     ORDER BY user_id, line
     LIMIT $3
"""
_READ_OF_LEARNER = """
    SELECT line
      FROM import_rows
     WHERE import_id = $1 AND user_id = $2 AND line > $3
     ORDER BY line
     LIMIT $4
"""


class _TriedOut(Exception):  # noqa: N818 - it carries a result out of a transaction that is rolled back
    def __init__(self, applied: Applied) -> None:
        self.applied = applied


class ImportStore:
    """Raises what `Database` raises."""

    def __init__(self, *, database: Database, standings: StandingReader) -> None:
        self._database = database
        self._standings = standings

    async def read_rules(self) -> RowRules:
        """What rows are checked against."""

        async def work(connection: Connection) -> RowRules:
            rows = await connection.fetch(
                "SELECT specialization, max(level) AS levels_max FROM specialization_levels GROUP BY 1"
            )
            now = await connection.fetchval("SELECT clock_timestamp()")
            return RowRules({row["specialization"]: row["levels_max"] for row in rows}, now)

        return await self._database.read(work, deadline=_deadline(), name="read_import_rules")

    async def stage(self, import_id: UUID, rows: Sequence[Row]) -> None:
        """Store rows of a file, to be merged later."""
        records = [_record(import_id, row) for row in rows]

        async def work(connection: Connection) -> None:
            await connection.copy_records_to_table("import_rows", records=records, columns=COLUMNS)

        await self._database.write(work, deadline=_deadline(), name="stage_import_rows")

    async def read(self, import_id: UUID, *, after: str, limit: int) -> list[Row]:
        """Staged rows of the learners behind one of them, by learner and line."""

        async def work(connection: Connection) -> list[Row]:
            return [_row(row) for row in await connection.fetch(_READ, import_id, after, limit)]

        return await self._database.read(work, deadline=_deadline(), name="read_import_rows")

    async def read_lines(self, import_id: UUID, user_id: UserId, *, after_line: int, limit: int) -> list[int]:
        """The staged lines of one learner behind one of them."""

        async def work(connection: Connection) -> list[int]:
            rows = await connection.fetch(_READ_OF_LEARNER, import_id, user_id, after_line, limit)
            return [row["line"] for row in rows]

        return await self._database.read(work, deadline=_deadline(), name="read_import_lines")

    async def apply(self, merged: MergedRows, user_ids: Sequence[UserId], *, dry_run: bool) -> Applied:
        """Write what the rows of these learners come to, in one transaction; a dry run rolls it back.

        Licenses are not told through the outbox: a run over all learners tells them.
        """

        async def work(connection: Connection) -> Applied:
            await connection.execute(_PROBE_INDEXES)
            applied = await apply_rows(connection, merged, user_ids, self._standings)
            if dry_run:
                raise _TriedOut(applied)
            return applied

        for attempt in range(1, LOCK_ATTEMPTS_MAX + 1):
            try:
                return await self._database.write(
                    work, deadline=_deadline(), lock_timeout_ms=LOCK_TIMEOUT_MS, name="apply_import"
                )
            except _TriedOut as tried_out:
                return tried_out.applied
            except LockTimeout:  # a learner is at work
                if attempt == LOCK_ATTEMPTS_MAX:
                    raise
                await asyncio.sleep(LOCK_PAUSE_SECONDS)
        raise AssertionError  # the last attempt returns or raises

    async def unstage(self, import_id: UUID, user_ids: Sequence[UserId]) -> None:
        """Delete the staged rows of these learners."""
        await self._database.execute_write(
            "DELETE FROM import_rows WHERE import_id = $1 AND user_id = ANY($2::text[])",
            import_id,
            user_ids,
            deadline=_deadline(),
            name="delete_import_rows",
        )

    async def unstage_leftovers(self, *, limit: int) -> bool:
        """Delete a part of what imports that were interrupted have left; whether there may be more."""
        rows = await self._database.execute_write(
            """
            DELETE FROM import_rows
             WHERE ctid = ANY (ARRAY(SELECT ctid
                                       FROM import_rows
                                      WHERE staged_at < clock_timestamp() - $1::interval
                                      LIMIT $2))
            RETURNING 1
            """,
            timedelta(days=STAGED_DAYS_MAX),
            limit,
            deadline=_deadline(),
            name="delete_import_leftovers",
        )
        return len(rows) == limit


def _record(import_id: UUID, row: Row) -> tuple[object, ...]:
    told: tuple[object, ...]
    if isinstance(row, ProgressRow):
        told = (row.specialization, row.level, row.xp, None, None)
    else:
        told = (None, None, None, row.module_id, row.lesson_id)
    return (row.user_id, import_id, row.line, *told, row.happened_at)


def _row(row: asyncpg.Record) -> Row:
    line, user_id, specialization, level, xp, module_id, lesson_id, happened_at = row
    if specialization is not None:
        return ProgressRow(line, UserId(user_id), specialization, level, xp, happened_at)
    return CompletionRow(line, UserId(user_id), module_id, lesson_id, happened_at)


def _deadline() -> float:
    return time.monotonic() + STATEMENT_SECONDS_MAX
