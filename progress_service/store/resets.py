"""Resets in the database: the audited row, the progress that begins again, the orders for the licenses."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item, Outcome, latest_deadline
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render, write_keyed
from chassis.postgres.rows import from_row
from progress_service.domain.license_orders import LicenseOrder
from progress_service.domain.resets import Reset, ResetOrder, Scope
from progress_service.domain.statistics import UserId
from progress_service.store.learners import insert_learners, lock_learners
from progress_service.store.levels import append_orders

_KNOWN = {
    Scope.SPECIALIZATION: """
        SELECT EXISTS (SELECT 1 FROM specializations WHERE specialization = $2)
            OR EXISTS (SELECT 1 FROM specialization_progress WHERE user_id = $1 AND specialization = $2)
    """,
    Scope.COURSE: "SELECT $1::text IS NOT NULL AND EXISTS (SELECT 1 FROM courses WHERE course_id = $2)",
}

# The time is the row's own, taken under the lock of the learner: what was earned before it is older.
_BEGIN_EPOCH = """
    WITH learner AS (
        UPDATE learner_statistics
           SET epoch = epoch + 1, version = version + 1, updated_at = clock_timestamp()
         WHERE user_id = $1
        RETURNING user_id, epoch, version, updated_at
    ), audited AS (
        INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)
        SELECT user_id, epoch, $2, $3, $4, $5, updated_at
          FROM learner
    )
    SELECT user_id, epoch, version, updated_at AS reset_at
      FROM learner
"""

# The level is again the highest one whose requirement is met, by no XP. Without a catalog, a level that a
# license has brought begins again at 1: the license has to begin again too, and has no level below that.
_BEGIN_AGAIN = """
    UPDATE specialization_progress AS progress
       SET xp = 0,
           level = CASE WHEN catalog.version > 0 THEN catalog.level ELSE least(progress.level, 1) END,
           max_level = CASE WHEN catalog.version > 0 THEN catalog.max_level ELSE progress.max_level END,
           granted_level = 0,
           epoch = $3,
           catalog_version = catalog.version,
           version = progress.version + 1,
           updated_at = clock_timestamp()
      FROM (SELECT known.specialization,
                   coalesce(max(rung.level) FILTER (WHERE rung.xp_required = 0), 0) AS level,
                   coalesce(max(rung.level), 0) AS max_level,
                   coalesce(max(specializations.version), 0) AS version
              FROM specialization_progress AS known
              LEFT JOIN specializations ON specializations.specialization = known.specialization
              LEFT JOIN specialization_levels AS rung ON rung.specialization = known.specialization
             WHERE known.user_id = $1 AND ($2 = '' OR known.specialization = $2)
             GROUP BY known.specialization) AS catalog
     WHERE progress.user_id = $1 AND progress.specialization = catalog.specialization
    RETURNING progress.specialization, progress.level, progress.max_level
"""


class ResetStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reset_progress(
        self, items: Sequence[Item[ResetOrder]], wait: bool, *, render: Render[Reset]
    ) -> list[Outcome | Locked]:
        """Carry out these in their sequence, each once per key."""
        learners = {item.request.user_id for item in items}
        await insert_learners(self._database, learners, deadline=latest_deadline(items))

        async def lock(connection: Connection, items: Sequence[Item[ResetOrder]]) -> frozenset[UserId]:
            return await lock_learners(connection, [item.request.user_id for item in items], wait=wait)

        async def change(
            connection: Connection, locked: frozenset[UserId], items: Sequence[Item[ResetOrder]]
        ) -> list[Reset | ServiceError | Locked]:
            return [
                await _reset(connection, item.request)
                if item.request.user_id in locked
                else Locked.HELD_BY_ANOTHER
                for item in items
            ]

        return await write_keyed(
            self._database, items, lock=lock, change=change, render=render, name="reset_progress"
        )


async def _reset(connection: Connection, order: ResetOrder) -> Reset | ServiceError:
    if order.scope is not Scope.ALL and not await connection.fetchval(
        _KNOWN[order.scope], order.user_id, order.name
    ):
        return ServiceError(Reason.NOT_FOUND, f"There is no such {order.scope.value}")
    (begun,) = await connection.fetch(
        _BEGIN_EPOCH, order.user_id, order.scope.value, order.name, order.ordered_by, order.reason
    )
    reset = from_row(Reset, begun)
    if order.scope is not Scope.COURSE:
        await _reset_levels(connection, order, reset)
    # The lessons of a course need no change: what belongs to an older epoch of the course is not read.
    return reset


async def _reset_levels(connection: Connection, order: ResetOrder, reset: Reset) -> None:
    rows = await connection.fetch(_BEGIN_AGAIN, order.user_id, order.name, reset.epoch)
    await append_orders(
        connection,
        [
            LicenseOrder(
                user_id=order.user_id,
                specialization=row["specialization"],
                epoch=reset.epoch,
                level=row["level"],
                max_level=row["max_level"],
                reason=order.reason,
                reset=True,
                ordered_by=order.ordered_by,
            )
            for row in rows
            if row["level"]
        ],
    )
