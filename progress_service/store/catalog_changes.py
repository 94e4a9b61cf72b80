"""Levels that an older catalog decided, decided again by the catalog as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.postgres import Connection, Database
from chassis.postgres.rows import from_row
from progress_service.domain.earnings import Gain
from progress_service.domain.statistics import UserId
from progress_service.store.granting import grant
from progress_service.store.learners import lock_learners

_FIND_OUTDATED = """
    SELECT outdated.user_id, outdated.specialization
      FROM specializations AS catalog
     CROSS JOIN LATERAL (
           SELECT user_id, specialization
             FROM specialization_progress
            WHERE specialization = catalog.specialization AND catalog_version < catalog.version
            LIMIT $1
           ) AS outdated
     LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class Outdated:
    """A learner's progress in a specialization whose level an older catalog decided."""

    user_id: UserId
    specialization: str


@dataclass(frozen=True, slots=True)
class Raised:
    """What one round found and decided again, and whether events wait in the outbox since then."""

    found: int
    decided: int
    levels_changed: bool


class CatalogChangeStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def decide_outdated(self, *, limit: int, deadline: float) -> Raised:
        """Decide the levels of up to `limit` rows again; locked learners are left for a later round."""

        async def find(connection: Connection) -> list[Outdated]:
            return [from_row(Outdated, row) for row in await connection.fetch(_FIND_OUTDATED, limit)]

        outdated = await self._database.read(find, deadline=deadline, name="find_outdated_levels")
        if not outdated:
            return Raised(0, 0, levels_changed=False)

        async def work(connection: Connection) -> Raised:
            return await _decide(connection, outdated)

        return await self._database.write(work, deadline=deadline, name="decide_outdated_levels")


async def _decide(connection: Connection, outdated: Sequence[Outdated]) -> Raised:
    locked = await lock_learners(connection, [each.user_id for each in outdated], wait=False)
    gains = [
        Gain(user_id=each.user_id, specialization=each.specialization)
        for each in outdated
        if each.user_id in locked
    ]
    changes = await grant(connection, gains)
    return Raised(len(outdated), len(gains), levels_changed=bool(changes))
