"""Session results: each is recorded once, together with the totals, XP entries and active days it brings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.rows import as_rows, from_row, names
from progress_service.domain.earnings import Earning
from progress_service.domain.statistics import Recording, ResultKey, SessionResult, UserId, decide
from progress_service.store.earning import earn
from progress_service.store.learners import LearnerRows, lock_learners, read_versions

RESULT = """
    user_id text, session_id text, test_id text, specialization text, completed boolean, answered integer,
    total integer, answers integer, correct integer, score float8, passed boolean, xp integer,
    closed_at timestamptz
"""
RESULT_COLUMNS = names(RESULT)

_SELECT_RESULTS = f"""
    SELECT {names(RESULT, of="result")}
      FROM json_to_recordset($1) AS wanted (user_id text, session_id text)
     CROSS JOIN LATERAL (
           SELECT {RESULT_COLUMNS}
             FROM session_results
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
           ) AS result
"""

_INSERT_RESULTS = f"""
    INSERT INTO session_results ({RESULT_COLUMNS})
    SELECT {RESULT_COLUMNS}
      FROM json_to_recordset($1) AS result ({RESULT})
"""


class Counted(NamedTuple):
    """What became of each result, and whether events about levels wait in the outbox since then."""

    recordings: list[Recording | Locked]
    levels_changed: bool


class ResultStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._learners = LearnerRows(database)

    async def ensure_learners(
        self, user_ids: Collection[UserId], *, certainly: bool, deadline: float
    ) -> None:
        """Give each learner a row of totals, as `LearnerRows` does; `insert_results` needs it."""
        await self._learners.ensure(user_ids, certainly=certainly, deadline=deadline)

    async def insert_results(
        self, items: Sequence[Item[SessionResult]], *, wait: bool, deadline: float
    ) -> Counted:
        """Count the results that are new, in one transaction; the learners must have their rows.

        With `wait`, a result whose learner is locked waits for the lock, up to the lock timeout; without it,
        the result is passed over.
        """
        results = [item.request for item in items]

        async def work(connection: Connection) -> Counted:
            locked = await lock_learners(connection, [result.user_id for result in results], wait=wait)
            ours = [result for result in results if result.user_id in locked]
            if not ours:
                return Counted([Locked.HELD_BY_ANOTHER] * len(results), levels_changed=False)
            # New statements: the snapshot of the locking statement may be older than its locks.
            decision = decide(
                ours,
                versions=await read_versions(connection, sorted(locked)),
                recorded=await _select_results(connection, ours),
            )
            if decision.new_results:
                await connection.execute(_INSERT_RESULTS, as_rows(decision.new_results))
            earned = await earn(connection, [_earning(each) for each in decision.new_results if each.counts])
            recordings = iter(decision.recordings)
            return Counted(
                [
                    next(recordings) if result.user_id in locked else Locked.HELD_BY_ANOTHER
                    for result in results
                ],
                levels_changed=any(each.levels for each in earned.values()),
            )

        return await self._database.write(work, deadline=deadline, name="insert_results")


def _earning(result: SessionResult) -> Earning:
    return Earning(
        user_id=result.user_id,
        operation_id=result.xp_operation_id,
        earned_at=result.closed_at,
        specialization=result.specialization,
        xp=result.xp,
        active_day=result.activity_day,
        completed_sessions=int(result.completed),
        questions_answered=result.answered,
        answers=result.answers,
        correct=result.correct,
    )


async def _select_results(
    connection: Connection, results: Sequence[SessionResult]
) -> dict[ResultKey, SessionResult]:
    """The results of these sessions that were recorded before."""
    keys = [{"user_id": result.user_id, "session_id": result.session_id} for result in results]
    rows = await connection.fetch(_SELECT_RESULTS, as_rows(keys))
    recorded = [from_row(SessionResult, row) for row in rows]
    return {result.key: result for result in recorded}
