"""Runs over all learners: who works on them, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import timedelta

import asyncpg

from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, from_row, names
from progress_service.domain.desyncs import Direction, Key
from progress_service.domain.sync_runs import Change, Counts, Lease, Order, Run, RunId, RunState

ORDER = """
    run_id uuid, direction text, dry_run boolean, specialization text, user_id text, ordered_by text,
    age_seconds_min double precision
"""
ORDER_COLUMNS = names(ORDER)
COUNTS = ", ".join(each.name for each in fields(Counts))
CHANGE_ROW = """
    user_id text, run_id uuid, specialization text, kind text, action text, outcome text,
    progress_before integer, license_before integer, progress_after integer, license_after integer,
    license_epoch integer, reason text
"""
CHANGE_ROW_COLUMNS = names(CHANGE_ROW)

LEASE_SECONDS = 30.0
"""Longer than a step takes. A replica that is slower loses the run to another one, and harms nothing."""

RUNS_UNDER_WAY_MAX = 256
"""Orders that may be under way at once. It is not exact: two orders at once may both be the last one."""

_BEGIN = f"""
    INSERT INTO sync_runs ({ORDER_COLUMNS}, slot, state, worked_at, started_at)
    SELECT {ORDER_COLUMNS}, $2, 'running', clock_timestamp(), clock_timestamp()
      FROM json_to_recordset($1) AS ordered ({ORDER})
     WHERE (SELECT count(*) FROM (SELECT FROM sync_runs WHERE state = 'running' LIMIT $3) AS running) < $3
        ON CONFLICT DO NOTHING
    RETURNING run_id
"""

# A slot is a multiple of the interval since 2000, by the database's clock. While a scheduled run is under
# way, no other one begins.
_BEGIN_DUE = f"""
    INSERT INTO sync_runs ({ORDER_COLUMNS}, slot, state, worked_at, started_at)
    SELECT {ORDER_COLUMNS}, date_bin($2::interval, clock_timestamp(), '2000-01-01 00:00:00+00'), 'running',
           clock_timestamp(), clock_timestamp()
      FROM json_to_recordset($1) AS ordered ({ORDER})
     WHERE NOT EXISTS (SELECT 1 FROM sync_runs WHERE state = 'running' AND slot IS NOT NULL)
        ON CONFLICT DO NOTHING
    RETURNING run_id
"""

# What a scheduled run could not carry out until the next one is due, that one looks at again. Otherwise a
# single learner could keep all later runs from beginning. The changes come before the run, as in `_END`.
_END_OVERDUE = """
    WITH overdue AS (
        SELECT run_id
          FROM sync_runs
         WHERE state = 'running' AND compared_all
           AND slot < date_bin($1::interval, clock_timestamp(), '2000-01-01 00:00:00+00')
    ), ended AS (
        UPDATE sync_changes AS change
           SET outcome = 'failed', reason = 'not carried out before the next run was due',
               changed_at = clock_timestamp()
          FROM overdue
         WHERE change.run_id = overdue.run_id AND change.outcome = 'planned'
        RETURNING change.run_id
    ), counted AS (
        SELECT overdue.run_id, count(ended.run_id) AS failed
          FROM overdue
          LEFT JOIN ended ON ended.run_id = overdue.run_id
         GROUP BY overdue.run_id
    )
    UPDATE sync_runs AS run
       SET planned = run.planned - counted.failed, failed = run.failed + counted.failed, state = 'finished',
           finished_at = clock_timestamp()
      FROM counted
     WHERE run.run_id = counted.run_id AND run.state = 'running'
"""

_LEASE = f"""
    UPDATE sync_runs
       SET lease = lease + 1, leased_until = clock_timestamp() + $2::interval, worked_at = clock_timestamp()
     WHERE run_id = (SELECT run_id
                       FROM sync_runs
                      WHERE state = 'running' AND (leased_until IS NULL OR leased_until < clock_timestamp())
                        AND ($1::uuid IS NULL OR run_id = $1)
                      ORDER BY worked_at
                      LIMIT 1
                        FOR UPDATE SKIP LOCKED)
    RETURNING {ORDER_COLUMNS}, lease, reached_specialization, reached_user_id, compared_all
"""

_ADVANCE = """
    UPDATE sync_runs
       SET reached_specialization = $3, reached_user_id = $4, compared_all = $5, compared = compared + $6
     WHERE run_id = $1 AND lease = $2
    RETURNING run_id
"""

# Each change that is new here is counted once: by its kind, and by its outcome.
_PLAN = f"""
    WITH written AS (
        INSERT INTO sync_changes ({CHANGE_ROW_COLUMNS}, changed_at)
        SELECT {CHANGE_ROW_COLUMNS}, clock_timestamp()
          FROM json_to_recordset($2) AS change ({CHANGE_ROW})
            ON CONFLICT ON CONSTRAINT sync_changes_once DO NOTHING
        RETURNING kind, outcome
    ), counted AS (
        SELECT count(*) FILTER (WHERE kind = 'level_mismatch') AS level_mismatches,
               count(*) FILTER (WHERE kind = 'progress_without_license') AS progress_without_license,
               count(*) FILTER (WHERE kind = 'license_without_progress') AS license_without_progress,
               count(*) FILTER (WHERE outcome = 'planned') AS planned,
               count(*) FILTER (WHERE outcome = 'needs_decision') AS needs_decision
          FROM written
    )
    UPDATE sync_runs AS run
       SET level_mismatches = run.level_mismatches + counted.level_mismatches,
           progress_without_license = run.progress_without_license + counted.progress_without_license,
           license_without_progress = run.license_without_progress + counted.license_without_progress,
           planned = run.planned + counted.planned,
           needs_decision = run.needs_decision + counted.needs_decision
      FROM counted
     WHERE run.run_id = $1
"""

_RELEASE = """
    UPDATE sync_runs
       SET leased_until = clock_timestamp() + $3::interval,
           state = CASE WHEN compared_all AND (dry_run OR planned = 0) THEN 'finished' ELSE state END,
           finished_at = CASE WHEN compared_all AND (dry_run OR planned = 0) THEN clock_timestamp() END
     WHERE run_id = $1 AND lease = $2 AND state = 'running'
    RETURNING state
"""

SELECT_RUN = f"SELECT {ORDER_COLUMNS}, state, {COUNTS}, started_at, finished_at FROM sync_runs"

_OLDEST_RUN = """
    SELECT run_id
      FROM sync_runs
     WHERE state = 'finished' AND started_at < clock_timestamp() - $1::interval
     ORDER BY started_at
     LIMIT 1
"""
_PURGE_CHANGES = f"""
    DELETE FROM sync_changes
     WHERE ctid = ANY (ARRAY(SELECT change.ctid
                               FROM sync_changes AS change
                              WHERE change.run_id = ({_OLDEST_RUN})
                              LIMIT $2))
    RETURNING 1
"""
_PURGE_RUN = f"""
    DELETE FROM sync_runs AS run
     WHERE run.run_id = ({_OLDEST_RUN})
       AND NOT EXISTS (SELECT 1 FROM sync_changes AS change WHERE change.run_id = run.run_id)
    RETURNING 1
"""


class SyncRunStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, order: Order, *, deadline: float) -> bool:
        """Begin this run, unless it has begun before; false if it has, or if too many runs are under way."""
        rows = await self._database.execute_write(
            _BEGIN, as_rows([order]), None, RUNS_UNDER_WAY_MAX, deadline=deadline, name="begin_sync_run"
        )
        return bool(rows)

    async def begin_due(self, order: Order, *, interval: timedelta, deadline: float) -> bool:
        """Begin a scheduled run, if no replica has begun one in this interval.

        A run of an earlier interval that has nothing left but what it could not carry out ends before that.
        """
        await self._database.execute_write(
            _END_OVERDUE, interval, deadline=deadline, name="end_overdue_sync_runs"
        )
        rows = await self._database.execute_write(
            _BEGIN_DUE, as_rows([order]), interval, deadline=deadline, name="begin_due_sync_run"
        )
        return bool(rows)

    async def lease(self, run_id: RunId | None, *, deadline: float) -> Lease | None:
        """Take the right to work on this run, or on the one that has waited longest; None if none is free."""
        rows = await self._database.execute_write(
            _LEASE, run_id, timedelta(seconds=LEASE_SECONDS), deadline=deadline, name="lease_sync_run"
        )
        if not rows:
            return None
        row = rows[0]
        reached = Key(row["reached_specialization"], row["reached_user_id"])
        return Lease(_order(row), row["lease"], reached if any(reached) else None, row["compared_all"])

    async def record(
        self, lease: Lease, changes: Sequence[Change], *, reached: Key | None, compared: int, deadline: float
    ) -> bool:
        """Store what a comparison has found, and how far it came; False if the lease is lost.

        `reached` is None if the comparison has come to its end.
        """
        run_id = lease.order.run_id

        async def work(connection: Connection) -> bool:
            name, learner = reached or ("", "")
            ours = await connection.fetch(
                _ADVANCE, run_id, lease.number, name, learner, reached is None, compared
            )
            if ours and changes:
                await connection.execute(_PLAN, run_id, change_rows(run_id, changes))
            return bool(ours)

        return await self._database.write(work, deadline=deadline, name="record_desyncs")

    async def release(self, lease: Lease, *, pause_seconds: float, deadline: float) -> bool:
        """Let any replica go on with the run, after a pause, or end it if nothing is left to do.

        Returns whether it has ended.
        """
        rows = await self._database.execute_write(
            _RELEASE,
            lease.order.run_id,
            lease.number,
            timedelta(seconds=pause_seconds),
            deadline=deadline,
            name="release_sync_run",
        )
        return bool(rows) and rows[0]["state"] == RunState.FINISHED

    async def find(self, run_id: RunId, *, deadline: float) -> Run | None:
        """The run with this id."""
        return (await self.find_all([run_id], deadline=deadline)).get(run_id)

    async def find_all(self, run_ids: Sequence[RunId], *, deadline: float) -> dict[RunId, Run]:
        """The runs with these ids; unknown ones are absent."""

        async def work(connection: Connection) -> list[Run]:
            rows = await connection.fetch(f"{SELECT_RUN} WHERE run_id = ANY($1::uuid[])", list(run_ids))
            return [run_from(row) for row in rows]

        found = await self._database.read(work, deadline=deadline, name="find_sync_runs")
        return {run.order.run_id: run for run in found}

    async def purge(self, *, older_than: timedelta, limit: int, deadline: float) -> bool:
        """Delete changes of the oldest finished run, or that run; whether there may be more to delete."""
        rows = await self._database.execute_write(
            _PURGE_CHANGES, older_than, limit, deadline=deadline, name="purge_sync_changes"
        )
        if not rows:
            rows = await self._database.execute_write(
                _PURGE_RUN, older_than, deadline=deadline, name="purge_sync_run"
            )
        return bool(rows)


def run_from(row: asyncpg.Record) -> Run:
    """The run in a row of SELECT_RUN."""
    return Run(
        _order(row), RunState(row["state"]), from_row(Counts, row), row["started_at"], row["finished_at"]
    )


def change_rows(run_id: RunId, changes: Sequence[Change]) -> str:
    """Changes of a run as rows of CHANGE_ROW, in one order for all batches, so that they cannot deadlock."""
    ordered = sorted(changes, key=lambda change: (change.user_id, change.specialization))
    return as_rows([{"run_id": run_id, **asdict(change)} for change in ordered])


def _order(row: asyncpg.Record) -> Order:
    return from_row(Order, row, direction=Direction(row["direction"]))
