"""Progress in specializations: XP, and the level that the catalog gives for it."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from chassis.postgres import Connection, outbox
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres.rows import as_rows, from_row
from progress_service.domain.earnings import Gain, LevelChange
from progress_service.domain.license_orders import LICENSE_TOPIC, LicenseOrder, order_of

# The level is the highest one whose requirement is met, and never falls: a level that was reached or granted
# stays, whatever becomes of the catalog. A license cannot be above the highest level, so this level is at
# least the learner's.
#
# A learner has few specializations, a specialization has many learners: `|| ''` keeps the planner from the
# index of specializations, which looks as good while the table is small.
_RAISE_LEVELS = """
    WITH decided AS (
        SELECT gain.user_id,
               gain.specialization,
               coalesce(known.xp, 0) + gain.xp AS xp,
               coalesce(known.level, 0) AS level_before,
               greatest(known.level, gain.granted_level, reached.level) AS level,
               coalesce(known.max_level, 0) AS max_level_before,
               greatest(known.level, gain.granted_level, reached.max_level) AS max_level,
               greatest(known.granted_level, gain.granted_level) AS granted_level,
               coalesce(known.epoch, gain.epoch) AS epoch,
               coalesce(catalog.version, 0) AS catalog_version
          FROM json_to_recordset($1)
               AS gain (user_id text, specialization text, xp bigint, granted_level integer, epoch integer)
          LEFT JOIN LATERAL (
               SELECT xp, level, max_level, granted_level, epoch
                 FROM specialization_progress
                WHERE user_id = gain.user_id AND specialization || '' = gain.specialization
                LIMIT 1
               ) AS known ON true
          LEFT JOIN specializations AS catalog ON catalog.specialization = gain.specialization
         CROSS JOIN LATERAL (
               SELECT coalesce(max(level) FILTER (WHERE xp_required <= coalesce(known.xp, 0) + gain.xp), 0)
                          AS level,
                      coalesce(max(level), 0) AS max_level
                 FROM specialization_levels AS rung
                WHERE rung.specialization = gain.specialization
               ) AS reached
    ), written AS (
        INSERT INTO specialization_progress AS progress
               (user_id, specialization, xp, level, max_level, granted_level, epoch, catalog_version, version,
                updated_at)
        SELECT user_id, specialization, xp, level, max_level, granted_level, epoch, catalog_version, 1,
               clock_timestamp()
          FROM decided
            ON CONFLICT ON CONSTRAINT specialization_progress_once DO UPDATE
               SET xp = excluded.xp, level = excluded.level, max_level = excluded.max_level,
                   granted_level = excluded.granted_level, catalog_version = excluded.catalog_version,
                   version = progress.version + 1, updated_at = excluded.updated_at
    )
    SELECT user_id, specialization, epoch, level_before, level, max_level
      FROM decided
     WHERE level > level_before OR (level > 0 AND max_level > max_level_before)
     ORDER BY user_id, specialization
"""


async def raise_levels(
    connection: Connection, gains: Sequence[Gain], *, tell: bool = True
) -> list[LevelChange]:
    """Add these gains, at most one for each learner and specialization, whose learners must be locked.

    Each change of a level gets its order in the outbox, except a granted level that the license has already.
    Without `tell` none does. The gains must belong to the current epochs.
    """
    if not gains:
        return []
    rows = await connection.fetch(_RAISE_LEVELS, as_rows(gains))
    granted = {(gain.user_id, gain.specialization): gain for gain in gains if gain.granted_level}
    changes = [
        from_row(
            LevelChange,
            row,
            told=tell and _is_news(row, granted.get((row["user_id"], row["specialization"]))),
        )
        for row in rows
    ]
    await append_orders(connection, [order_of(change) for change in changes if change.told])
    return changes


def _is_news(row: asyncpg.Record, granted: Gain | None) -> bool:
    """Whether the license does not have this level and highest level yet."""
    if granted is None:
        return True
    return bool(row["level"] > granted.granted_level or row["max_level"] > granted.license_max_level)


async def append_orders(connection: Connection, orders: Sequence[LicenseOrder]) -> None:
    """Tell subscription_service, through the outbox."""
    await outbox.append(
        connection,
        [OutboxEvent(order.user_id, order.event_id, LICENSE_TOPIC, order.payload()) for order in orders],
    )
