"""Grants: learners get the levels of their licenses, each grant together with the end of its change."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.rows import as_rows
from progress_service.domain.desyncs import Key
from progress_service.domain.statistics import UserId
from progress_service.domain.sync_runs import Change, ProgressNow, RunId
from progress_service.store.granting import grant
from progress_service.store.learners import insert_learners, lock_learners
from progress_service.store.sync_changes import end_changes

# Of these keys, those whose change is still planned, with the learner's level and epoch.
_STILL_PLANNED = """
    SELECT wanted.user_id, wanted.specialization, coalesce(progress.level, 0) AS level,
           greatest(progress.epoch, epochs.latest, 0) AS epoch
      FROM json_to_recordset($2) AS wanted (user_id text, specialization text)
     CROSS JOIN LATERAL (SELECT outcome
                           FROM sync_changes
                          WHERE user_id = wanted.user_id AND run_id = $1
                            AND specialization = wanted.specialization
                          LIMIT 1) AS change
      LEFT JOIN LATERAL (SELECT level, epoch
                           FROM specialization_progress
                          WHERE user_id = wanted.user_id AND specialization = wanted.specialization
                          LIMIT 1) AS progress ON true
     CROSS JOIN LATERAL (SELECT max(epoch) AS latest
                           FROM progress_resets
                          WHERE user_id = wanted.user_id
                            AND (scope = 'all' OR (scope = 'specialization' AND name = wanted.specialization))
                        ) AS epochs
     WHERE change.outcome = 'planned'
"""


class GrantStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def grant_levels(
        self, run_id: RunId, changes: Sequence[Change], *, wait: bool, deadline: float
    ) -> list[Change | Locked]:
        """Carry out these changes of a run, as the learners' levels are under their locks.

        A change that has ended before is returned as it was planned.
        """
        await insert_learners(self._database, {change.user_id for change in changes}, deadline=deadline)

        async def work(connection: Connection) -> list[Change | Locked]:
            locked = await lock_learners(connection, [change.user_id for change in changes], wait=wait)
            ours = [change for change in changes if change.user_id in locked]
            now = await _still_planned(connection, run_id, ours)
            ended: dict[Key, Change] = {}
            gains = []
            for change in ours:
                if change.key in now:
                    ended[change.key], gain = change.granted(now[change.key])
                    if gain is not None:
                        gains.append(gain)
            await grant(connection, gains)
            await end_changes(connection, run_id, list(ended.values()))
            return [
                ended.get(change.key, change) if change.user_id in locked else Locked.HELD_BY_ANOTHER
                for change in changes
            ]

        return await self._database.write(work, deadline=deadline, name="grant_levels")


async def _still_planned(
    connection: Connection, run_id: RunId, changes: Sequence[Change]
) -> dict[Key, ProgressNow]:
    rows = await connection.fetch(_STILL_PLANNED, run_id, as_rows([each.key._asdict() for each in changes]))
    return {
        Key(row["specialization"], UserId(row["user_id"])): ProgressNow(row["level"], row["epoch"])
        for row in rows
    }
