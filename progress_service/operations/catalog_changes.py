"""Background work after a change of the catalog: learners get the levels that their XP gives now."""

from __future__ import annotations

from collections.abc import Callable

from chassis.process.background import AT_ONCE, step_deadline
from progress_service.store.catalog_changes import CatalogChangeStore

ROWS_PER_ROUND = 200


class LevelRaising:
    """Decides levels again round by round; any number of replicas may do so."""

    def __init__(self, *, store: CatalogChangeStore, wake_relay: Callable[[], object]) -> None:
        self._store = store
        self._wake_relay = wake_relay

    async def raise_due(self) -> float | None:
        """One round. Returns the seconds to wait before the next one: 0 if more rows may be due."""
        raised = await self._store.decide_outdated(limit=ROWS_PER_ROUND, deadline=step_deadline())
        if raised.levels_changed:
            self._wake_relay()
        return AT_ONCE if raised.found == ROWS_PER_ROUND and raised.decided else None
