"""Levels that rise without XP: by a license that was advanced, or by a catalog that has changed."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.postgres import Connection
from progress_service.domain.earnings import Gain, LevelChange
from progress_service.store.achievements import award
from progress_service.store.learners import raise_versions
from progress_service.store.levels import raise_levels


async def grant(connection: Connection, gains: Sequence[Gain], *, tell: bool = True) -> list[LevelChange]:
    """Raise levels as `raise_levels` does, and with them the learners' versions and achievements.

    The learners must be locked. Wake the relay after the commit if a change is told.
    """
    changes = await raise_levels(connection, gains, tell=tell)
    learners = sorted({change.user_id for change in changes if change.reached})
    if learners:
        await raise_versions(connection, learners)
        await award(connection, learners)
    return changes
