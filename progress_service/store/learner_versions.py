"""The versions of learners: how far their progress has come."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from chassis.postgres import Connection, Database
from progress_service.domain.statistics import UserId


class VersionStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_versions(self, user_ids: Sequence[UserId], *, deadline: float) -> list[int]:
        """The version of each of these learners, in their order; 0 for a learner without any progress."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(
                "SELECT user_id, version FROM learner_statistics WHERE user_id = ANY($1::text[])",
                list(user_ids),
            )

        found = await self._database.read(work, deadline=deadline, name="read_versions")
        versions = {row["user_id"]: row["version"] for row in found}
        return [versions.get(user_id, 0) for user_id in user_ids]
