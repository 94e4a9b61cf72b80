"""Session results: each is recorded once, together with the totals, XP entries and active days it brings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from chassis.batch import Item
from chassis.postgres import PATIENCE, Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.rows import as_rows, from_row, names
from progress_service.domain.statistics import (
    Decision,
    Recording,
    ResultKey,
    SessionResult,
    Statistics,
    UserId,
    decide,
)

RESULT = """
    user_id text, session_id text, test_id text, specialization text, completed boolean, answered integer,
    total integer, answers integer, correct integer, score float8, passed boolean, xp integer,
    closed_at timestamptz
"""
RESULT_COLUMNS = names(RESULT)

TOTALS = ("completed_sessions", "questions_answered", "answers", "correct", "xp", "version")
"""The totals of a learner: the numbers of Statistics."""

_INSERT_LEARNERS = f"""
    WITH {PATIENCE}
    INSERT INTO learner_statistics (user_id)
    SELECT user_id
      FROM (SELECT DISTINCT unnest($1::text[]) AS user_id) AS learner
     CROSS JOIN patience
     WHERE NOT EXISTS (SELECT 1
                         FROM learner_statistics AS known
                        WHERE known.user_id = learner.user_id)
     ORDER BY user_id
        ON CONFLICT DO NOTHING
"""

_LOCK_LEARNERS = """
    SELECT user_id
      FROM learner_statistics
     WHERE user_id = ANY($1::text[])
     ORDER BY user_id
       FOR NO KEY UPDATE
"""
_LOCK_FREE_LEARNERS = f"{_LOCK_LEARNERS} SKIP LOCKED"

_SELECT_STATISTICS = f"""
    SELECT user_id, {", ".join(TOTALS)}, updated_at
      FROM learner_statistics
     WHERE user_id = ANY($1::text[])
"""

_SELECT_RESULTS = f"""
    SELECT {RESULT_COLUMNS}
      FROM session_results
      JOIN json_to_recordset($1) AS wanted (user_id text, session_id text) USING (user_id, session_id)
"""

_INSERT_RESULTS = f"""
    INSERT INTO session_results ({RESULT_COLUMNS})
    SELECT {RESULT_COLUMNS}
      FROM json_to_recordset($1) AS result ({RESULT})
"""

_INSERT_XP_ENTRIES = """
    INSERT INTO xp_entries (user_id, operation_id, amount, specialization, earned_at)
    SELECT user_id, operation_id, amount, specialization, earned_at
      FROM json_to_recordset($1)
           AS entry (user_id text, operation_id uuid, amount integer, specialization text,
                     earned_at timestamptz)
"""

_INSERT_ACTIVITY_DAYS = """
    INSERT INTO activity_days (user_id, day)
    SELECT user_id, day
      FROM json_to_recordset($1) AS active (user_id text, day date)
        ON CONFLICT ON CONSTRAINT activity_days_once DO NOTHING
"""

_UPDATE_STATISTICS = f"""
    UPDATE learner_statistics
       SET {", ".join(f"{total} = changed.{total}" for total in TOTALS)},
           updated_at = clock_timestamp()
      FROM json_to_recordset($1) AS changed (user_id text, {", ".join(f"{total} bigint" for total in TOTALS)})
     WHERE learner_statistics.user_id = changed.user_id
"""


@dataclass(frozen=True, slots=True)
class _XpEntry:
    user_id: UserId
    operation_id: UUID
    amount: int
    specialization: str
    earned_at: datetime


@dataclass(frozen=True, slots=True)
class _ActivityDay:
    user_id: UserId
    day: date


class ResultStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_learners(self, user_ids: Collection[UserId], *, deadline: float) -> None:
        """Give each learner a row of totals, which is also the lock on everything of that learner.

        This statement waits for a transaction that inserts the same learner and has not ended yet. It sets
        its own lock timeout, so that such a transaction delays the batch for a quarter of a second at most.
        """
        await self._database.execute_write(
            _INSERT_LEARNERS, list(user_ids), deadline=deadline, name="insert_learners"
        )

    async def insert_results(
        self, items: Sequence[Item[SessionResult]], *, wait: bool, deadline: float
    ) -> list[Recording | Locked]:
        """Count the results that are new, in one transaction; the learners must have their rows.

        With `wait`, a result whose learner is locked waits for the lock, up to the lock timeout; without it,
        the result is passed over.
        """
        results = [item.request for item in items]

        async def work(connection: Connection) -> list[Recording | Locked]:
            locked = await _lock_learners(connection, results, wait=wait)
            ours = [result for result in results if result.user_id in locked]
            if not ours:
                return [Locked.HELD_BY_ANOTHER] * len(results)
            # New statements: the snapshot of the locking statement may be older than its locks.
            decision = decide(
                ours,
                statistics=await _select_statistics(connection, sorted(locked)),
                recorded=await _select_results(connection, ours),
            )
            await _write(connection, decision)
            recordings = iter(decision.recordings)
            return [
                next(recordings) if result.user_id in locked else Locked.HELD_BY_ANOTHER for result in results
            ]

        return await self._database.write(work, deadline=deadline, name="insert_results")


async def _lock_learners(
    connection: Connection, results: Sequence[SessionResult], *, wait: bool
) -> frozenset[UserId]:
    rows = await connection.fetch(
        _LOCK_LEARNERS if wait else _LOCK_FREE_LEARNERS, list({result.user_id for result in results})
    )
    return frozenset(UserId(row["user_id"]) for row in rows)


async def _select_statistics(connection: Connection, user_ids: Sequence[UserId]) -> dict[UserId, Statistics]:
    rows = await connection.fetch(_SELECT_STATISTICS, user_ids)
    return {UserId(row["user_id"]): from_row(Statistics, row) for row in rows}


async def _select_results(
    connection: Connection, results: Sequence[SessionResult]
) -> dict[ResultKey, SessionResult]:
    """The results of these sessions that were recorded before."""
    keys = [{"user_id": result.user_id, "session_id": result.session_id} for result in results]
    rows = await connection.fetch(_SELECT_RESULTS, as_rows(keys))
    recorded = [from_row(SessionResult, row) for row in rows]
    return {result.key: result for result in recorded}


async def _write(connection: Connection, decision: Decision) -> None:
    """Write what the decision found to be new; most batches have all four kinds of rows."""
    if decision.new_results:
        await connection.execute(_INSERT_RESULTS, as_rows(decision.new_results))
    counting = [result for result in decision.new_results if result.counts]
    if not counting:
        return
    entries = [
        _XpEntry(result.user_id, result.xp_operation_id, result.xp, result.specialization, result.closed_at)
        for result in counting
        if result.xp
    ]
    days = [_ActivityDay(result.user_id, day) for result in counting if (day := result.activity_day)]
    await connection.execute(_INSERT_XP_ENTRIES, as_rows(entries))
    await connection.execute(_INSERT_ACTIVITY_DAYS, as_rows(days))
    await connection.execute(_UPDATE_STATISTICS, as_rows(decision.changed_statistics))
