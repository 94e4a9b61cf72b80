"""Repairs of licenses. The history is the truth: all followers of the feed have seen it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chassis.diagnostics.repairs import Repair, planned_by
from chassis.diagnostics.tables import Rows, Tables
from chassis.postgres import Connection
from subscription_service.store.licenses import CHANNEL
from subscription_service.store.locks import LOCK_LEARNER

REBUILD_LICENSES = "subscription.rebuild_licenses"
REMEMBER_EVENTS = "subscription.remember_events"

# A license without any history keeps its level, and its history gets the line. The line names the progress as
# its origin, so progress_service grants nothing because of it. Whether the two agree is a check of its own.
_REBUILD = """
    WITH wanted AS (
        SELECT DISTINCT user_id, row ->> 'specialization' AS specialization FROM found
    ), known AS (
        SELECT wanted.user_id, wanted.specialization, to_jsonb(kept) AS before, kept.level, kept.max_level,
               kept.epoch, last.to_level, last.max_level AS last_max_level, last.epoch AS last_epoch,
               last.origin, clock_timestamp() AS now, gen_random_uuid() AS event_id
          FROM wanted
          LEFT JOIN licenses AS kept
            ON kept.user_id = wanted.user_id AND kept.specialization = wanted.specialization
          LEFT JOIN LATERAL (SELECT to_level, max_level, epoch, origin
                               FROM license_changes
                              WHERE user_id = wanted.user_id AND specialization = wanted.specialization
                              ORDER BY sequence DESC
                              LIMIT 1) AS last ON true
    )
    SELECT user_id || ' ' || specialization AS unit, user_id, table_name, before, after
      FROM (
          SELECT user_id, specialization, 1 AS place, 'licenses' AS table_name, before,
                 jsonb_build_object('user_id', user_id, 'specialization', specialization, 'level', to_level,
                                    'max_level', greatest(last_max_level, max_level),
                                    'epoch', CASE WHEN origin IS NULL THEN coalesce(epoch, last_epoch)
                                                  ELSE last_epoch END,
                                    'updated_at', now) AS after
            FROM known
           WHERE to_level IS NOT NULL
           UNION ALL
          SELECT user_id, specialization, 1, 'license_events', NULL,
                 jsonb_build_object('user_id', user_id, 'specialization', specialization,
                                    'event_id', event_id, 'received_at', now)
            FROM known
           WHERE to_level IS NULL AND level IS NOT NULL
           UNION ALL
          SELECT user_id, specialization, 2, 'license_changes', NULL,
                 jsonb_build_object('user_id', user_id, 'specialization', specialization, 'from_level', 0,
                                    'to_level', level, 'max_level', max_level, 'changed_by', 'repair',
                                    'reason', 'the history had no line of this license',
                                    'event_id', event_id, 'changed_at', now, 'epoch', epoch,
                                    'origin', 'progress')
            FROM known
           WHERE to_level IS NULL AND level IS NOT NULL
      ) AS changed
     ORDER BY user_id, specialization, place
"""
_REMEMBER = """
    SELECT found.user_id || ' ' || (found.row ->> 'sequence') AS unit, found.user_id,
           'license_events' AS table_name, NULL::jsonb AS before,
           jsonb_build_object('user_id', change.user_id, 'specialization', change.specialization,
                              'event_id', change.event_id, 'received_at', change.changed_at) AS after
      FROM found
      JOIN license_changes AS change
        ON change.user_id = found.user_id AND change.sequence = (found.row ->> 'sequence')::bigint
     ORDER BY found.user_id, change.sequence
"""
# The number behind those that this transaction has given already. See `_WRITE_PROGRESSIONS`.
_NEXT_SEQUENCE = """
    SELECT coalesce(max(change.sequence) + 1, own.first)
      FROM (SELECT (origin + pg_current_xact_id()::text::bigint) << 16 AS first FROM license_feed) AS own
      LEFT JOIN license_changes AS change
        ON change.sequence >= own.first AND change.sequence < own.first + (1 << 16)
     GROUP BY own.first
"""


class LicenseChangeRows:
    """The rows of license_changes: a new one gets its number in the feed from the transaction that writes it.

    A number that a plan had given would be behind what readers of the feed have seen already.
    """

    def __init__(self) -> None:
        self._tables = Tables()

    async def lock(self, connection: Connection, before: Mapping[str, Any]) -> bool | None:
        """See `Rows`."""
        return await (await self._table(connection)).lock(connection, before)

    async def insert(self, connection: Connection, after: Mapping[str, Any]) -> dict[str, Any] | None:
        """See `Rows`. A row that comes back, because its removal is taken back, keeps its number."""
        row = dict(after)
        if "sequence" not in row:
            row["sequence"] = await connection.fetchval(_NEXT_SEQUENCE)
        created = await (await self._table(connection)).insert(connection, row)
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
        return created

    async def replace(
        self, connection: Connection, before: Mapping[str, Any], after: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """See `Rows`."""
        return await (await self._table(connection)).replace(connection, before, after)

    async def _table(self, connection: Connection) -> Rows:
        return await self._tables.get(connection, "license_changes")


LICENSE_REPAIRS: tuple[Repair, ...] = (
    Repair(
        repair_id=REBUILD_LICENSES,
        meaning="Sets a license to what the last line of its history made it; a license without a history "
        "gets its line.",
        tables=("licenses", "license_events", "license_changes"),
        plan=planned_by(_REBUILD),
        lock=LOCK_LEARNER,
    ),
    Repair(
        repair_id=REMEMBER_EVENTS,
        meaning="Remembers the event of a change, so that it never counts twice.",
        tables=("license_events",),
        plan=planned_by(_REMEMBER),
        lock=LOCK_LEARNER,
    ),
)
