"""What changes of licenses do to progress: each once, together with the position in the feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, from_row
from progress_service.domain.earnings import Gain, LevelChange
from progress_service.domain.license_changes import LicenseChange
from progress_service.store.granting import grant
from progress_service.store.learners import insert_learners, lock_learners

# Replicas take turns. A turn may wait for a learner whom another transaction holds.
TURN_LOCK_TIMEOUT_MS = 2000

# A license that was advanced in an older epoch than the progress has is reset soon. So its level is late.
# But no reset is on its way to a license in which the learner has no progress: its level counts in the new
# epoch, and an order tells the license that epoch (a highest level of 0 makes every order news). So it does
# if the license had a higher level in an older epoch than it has in the new one.
_GRANTED = """
    SELECT advance.user_id, advance.specialization, 0::bigint AS xp, latest.epoch,
           max(advance.level) AS granted_level,
           CASE WHEN max(advance.level) FILTER (WHERE advance.epoch = latest.epoch) = max(advance.level)
                THEN max(advance.max_level) FILTER (WHERE advance.epoch = latest.epoch)
                ELSE 0 END AS license_max_level
      FROM json_to_recordset($1)
           AS advance (user_id text, specialization text, level integer, max_level integer, epoch integer)
      LEFT JOIN specialization_progress AS known
             ON known.user_id = advance.user_id AND known.specialization = advance.specialization
     CROSS JOIN LATERAL (
           SELECT coalesce(max(reset.epoch), 0) AS epoch
             FROM progress_resets AS reset
            WHERE reset.user_id = advance.user_id
              AND (reset.scope = 'all'
                   OR (reset.scope = 'specialization' AND reset.name = advance.specialization))
           ) AS latest
     WHERE (advance.epoch = known.epoch OR (known.epoch IS NULL AND advance.epoch <= latest.epoch))
       AND advance.level > coalesce(known.granted_level, 0)
     GROUP BY advance.user_id, advance.specialization, latest.epoch
     ORDER BY advance.user_id, advance.specialization
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """How many changes were new here, how many raised a level, and whether events wait in the outbox."""

    fresh: int
    raised: int
    levels_told: bool


class LicenseFeedStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_position(self, *, deadline: float) -> int:
        """The sequence number of the last change that has had its effect."""

        async def work(connection: Connection) -> int:
            return int(await connection.fetchval("SELECT sequence FROM license_feed_position"))

        return await self._database.read(work, deadline=deadline, name="read_license_feed_position")

    async def apply_changes(self, changes: Sequence[LicenseChange], *, deadline: float) -> Followed:
        """Give these changes, which follow each other in the feed, their effect; each once.

        The row of the position is the lock: of replicas that apply the same changes, the first one does it.
        """
        advances = [change for change in changes if change.advanced]
        if advances:
            learners = {change.user_id for change in advances}
            await insert_learners(self._database, learners, deadline=deadline)

        async def work(connection: Connection) -> Followed:
            position = await connection.fetchval("SELECT sequence FROM license_feed_position FOR UPDATE")
            fresh = [change for change in changes if change.sequence > position]
            if not fresh:
                return Followed(fresh=0, raised=0, levels_told=False)
            raised = await _grant(connection, [change for change in fresh if change.advanced])
            await connection.execute("UPDATE license_feed_position SET sequence = $1", fresh[-1].sequence)
            return Followed(
                fresh=len(fresh),
                raised=sum(change.reached for change in raised),
                levels_told=any(change.told for change in raised),
            )

        return await self._database.write(
            work, deadline=deadline, lock_timeout_ms=TURN_LOCK_TIMEOUT_MS, name="apply_license_changes"
        )


async def _grant(connection: Connection, advances: Sequence[LicenseChange]) -> list[LevelChange]:
    if not advances:
        return []
    await lock_learners(connection, [change.user_id for change in advances], wait=True)
    gains = [from_row(Gain, row) for row in await connection.fetch(_GRANTED, as_rows(advances))]
    return await grant(connection, gains)
