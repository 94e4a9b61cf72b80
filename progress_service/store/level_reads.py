"""Levels as the comparison with the licenses reads them: in one order, and by their keys."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from chassis.postgres import Connection, Database
from chassis.postgres.outbox import is_under_way
from chassis.postgres.rows import as_rows, from_row
from progress_service.domain.desyncs import Key, ProgressLevel, Slice
from progress_service.domain.license_orders import LICENSE_TOPIC

_LEVEL = f"""
    progress.user_id, progress.specialization, progress.level, progress.max_level, progress.epoch,
    extract(epoch FROM clock_timestamp() - progress.updated_at)::float8 AS age_seconds,
    {is_under_way("progress.user_id", LICENSE_TOPIC)} AS under_way
"""
# The collation is that of the index specialization_progress_in_order.
_LEVELS = f"""
    SELECT {_LEVEL}
      FROM specialization_progress AS progress
     WHERE (specialization COLLATE "C", user_id COLLATE "C") > ($1, $2)
     ORDER BY specialization COLLATE "C", user_id COLLATE "C"
     LIMIT $3
"""
_LEVELS_OF_A_SPECIALIZATION = f"""
    SELECT {_LEVEL}
      FROM specialization_progress AS progress
     WHERE specialization COLLATE "C" = $1 AND user_id COLLATE "C" > $2
     ORDER BY user_id COLLATE "C"
     LIMIT $3
"""
_LEVELS_OF_A_LEARNER = f"""
    SELECT {_LEVEL}
      FROM specialization_progress AS progress
     WHERE user_id = $1 AND ($2 = '' OR specialization = $2) AND specialization COLLATE "C" > $3
     ORDER BY specialization COLLATE "C"
     LIMIT $4
"""
_LEVELS_OF_KEYS = f"""
    SELECT {_LEVEL}
      FROM json_to_recordset($1) AS wanted (user_id text, specialization text)
     CROSS JOIN LATERAL (SELECT user_id, specialization, level, max_level, epoch, updated_at
                           FROM specialization_progress
                          WHERE user_id = wanted.user_id AND specialization = wanted.specialization
                          LIMIT 1) AS progress
"""


class LevelReader:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_levels(
        self, *, after: Key | None, specialization: str, user_id: str, limit: int, deadline: float
    ) -> Slice[ProgressLevel]:
        """Levels behind a key: of one specialization, or of one learner, unless these are empty."""
        name, learner = after or ("", "")

        async def work(connection: Connection) -> list[asyncpg.Record]:
            if user_id:
                return await connection.fetch(_LEVELS_OF_A_LEARNER, user_id, specialization, name, limit + 1)
            if not specialization:
                return await connection.fetch(_LEVELS, name, learner, limit + 1)
            if name > specialization:
                return []
            behind = learner if name == specialization else ""
            return await connection.fetch(_LEVELS_OF_A_SPECIALIZATION, specialization, behind, limit + 1)

        rows = await self._database.read(work, deadline=deadline, name="list_levels")
        return Slice([_level(row) for row in rows[:limit]], more=len(rows) > limit)

    async def select_levels(self, keys: Sequence[Key], *, deadline: float) -> dict[Key, ProgressLevel]:
        """The levels of these keys as they are now; a key without a row is absent."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(_LEVELS_OF_KEYS, as_rows([key._asdict() for key in keys]))

        rows = await self._database.read(work, deadline=deadline, name="select_levels")
        levels = [_level(row) for row in rows]
        return {level.key: level for level in levels}


def _level(row: asyncpg.Record) -> ProgressLevel:
    return from_row(ProgressLevel, row)
