"""The versions of learners: how far their progress has come."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.postgres import Connection, Database
from progress_service.domain.statistics import UserId
from progress_service.store.learners import read_versions


class VersionStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_versions(self, user_ids: Sequence[UserId], *, deadline: float) -> list[int]:
        """The version of each of these learners, in their order; 0 for a learner without any progress."""

        async def work(connection: Connection) -> dict[UserId, int]:
            return await read_versions(connection, user_ids)

        versions = await self._database.read(work, deadline=deadline, name="read_versions")
        return [versions.get(user_id, 0) for user_id in user_ids]
