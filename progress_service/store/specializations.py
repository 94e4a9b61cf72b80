"""The catalog of specializations, and learners' progress in them as it is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from chassis.batch import Item, latest_deadline
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, from_row
from chassis.rpc.paging import Page
from progress_service.domain.specializations import Level, Specialization, SpecializationProgress

LEVEL = "specialization text, level integer, name text, xp_required integer"

# The row of the specialization is the lock on its levels.
_PUT_NAMES = """
    INSERT INTO specializations (specialization, name, updated_at)
    SELECT specialization, name, clock_timestamp()
      FROM json_to_recordset($1) AS put (specialization text, name text)
        ON CONFLICT ON CONSTRAINT specializations_once DO UPDATE
           SET name = excluded.name, updated_at = excluded.updated_at
"""

# A specialization whose levels stay as they are keeps its version, so that nobody's level is decided again.
_PUT_LEVELS = f"""
    WITH put AS (
        SELECT specialization, level, name, xp_required
          FROM json_to_recordset($1) AS put ({LEVEL})
    ), removed AS (
        DELETE FROM specialization_levels AS known
         WHERE known.specialization = ANY($2::text[])
           AND NOT EXISTS (SELECT 1
                             FROM put
                            WHERE put.specialization = known.specialization AND put.level = known.level)
        RETURNING known.specialization
    ), written AS (
        INSERT INTO specialization_levels AS known (specialization, level, name, xp_required)
        SELECT specialization, level, name, xp_required
          FROM put
            ON CONFLICT ON CONSTRAINT specialization_levels_once DO UPDATE
               SET name = excluded.name, xp_required = excluded.xp_required
             WHERE known.name <> excluded.name OR known.xp_required <> excluded.xp_required
        RETURNING known.specialization
    )
    UPDATE specializations
       SET version = version + 1
     WHERE specialization IN (SELECT specialization FROM removed UNION SELECT specialization FROM written)
"""


class SpecializationStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_specializations(self, items: Sequence[Item[Specialization]]) -> list[Specialization]:
        """Create or replace these; of several for one specialization, the last counts."""
        last = {item.request.specialization: item.request for item in items}
        ordered = [last[name] for name in sorted(last)]
        names = [{"specialization": each.specialization, "name": each.name} for each in ordered]
        levels = [
            {
                "specialization": each.specialization,
                "level": level.level,
                "name": level.name,
                "xp_required": level.xp_required,
            }
            for each in ordered
            for level in each.levels
        ]

        async def work(connection: Connection) -> list[Specialization]:
            await connection.execute(_PUT_NAMES, as_rows(names))
            await connection.execute(_PUT_LEVELS, as_rows(levels), sorted(last))
            return [item.request for item in items]

        return await self._database.write(work, deadline=latest_deadline(items), name="put_specializations")

    async def list_specializations(self, item: Item[None], page: Page) -> list[Specialization]:
        """Specializations by their names in the catalog."""
        (after,) = page.after or ("",)

        async def work(connection: Connection) -> list[Specialization]:
            rows = await connection.fetch(
                """
                SELECT catalog.specialization, catalog.name, rung.level, rung.name AS level_name,
                       rung.xp_required
                  FROM (SELECT specialization, name
                          FROM specializations
                         WHERE specialization > $1
                         ORDER BY specialization
                         LIMIT $2) AS catalog
                  JOIN specialization_levels AS rung ON rung.specialization = catalog.specialization
                 ORDER BY catalog.specialization, rung.level
                """,
                after,
                page.limit,
            )
            names: dict[str, str] = {}
            levels: dict[str, list[Level]] = defaultdict(list)
            for row in rows:
                names[row["specialization"]] = row["name"]
                levels[row["specialization"]].append(
                    Level(row["level"], row["level_name"], row["xp_required"])
                )
            return [Specialization(each, name, tuple(levels[each])) for each, name in names.items()]

        return await self._database.read(work, deadline=item.deadline, name="list_specializations")

    async def list_progress(self, item: Item[None], page: Page) -> list[SpecializationProgress]:
        """The caller's progress by specialization, in those in which the caller has begun."""
        (after,) = page.after or ("",)

        async def work(connection: Connection) -> list[SpecializationProgress]:
            rows = await connection.fetch(
                """
                SELECT progress.user_id, progress.specialization, progress.xp, progress.level,
                       greatest(progress.level, rungs.max_level) AS max_level,
                       rungs.next_level_xp
                  FROM specialization_progress AS progress
                 CROSS JOIN LATERAL (
                       SELECT max(rung.level) AS max_level,
                              min(rung.xp_required) FILTER (WHERE rung.level > progress.level)
                                  AS next_level_xp
                         FROM specialization_levels AS rung
                        WHERE rung.specialization = progress.specialization
                       ) AS rungs
                 WHERE progress.user_id = $1 AND progress.specialization > $2
                 ORDER BY progress.specialization
                 LIMIT $3
                """,
                item.user_id,
                after,
                page.limit,
            )
            return [from_row(SpecializationProgress, row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_specialization_progress")
