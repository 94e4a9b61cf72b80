"""PutWatched: what was watched of a video becomes a union."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from progress_service.domain.watching import Watched, WatchRequest
from progress_service.operations.lessons import run_in_courses
from progress_service.store.modules import ModuleStore
from progress_service.store.watching import WatchingStore


class WatchingOperations:
    """What watching does."""

    def __init__(self, *, store: WatchingStore, modules: ModuleStore) -> None:
        self._store = store
        self._modules = modules

    async def put_watched(self, items: Sequence[Item[WatchRequest]]) -> list[Watched | ServiceError]:
        """Add to what was watched; order, overlap and repetition make no difference.

        Refuses with NOT_FOUND, with LESSON_LOCKED, and with INVALID_ARGUMENT a lesson without a video and
        more separate parts than are kept.
        """
        return await run_in_courses(items, self._modules, self._put_known)

    async def _put_known(self, items: Sequence[Item[WatchRequest]]) -> list[Watched | ServiceError]:
        async def attempt(
            some: Sequence[Item[WatchRequest]], wait: bool
        ) -> list[Watched | ServiceError | Locked]:
            await self._store.ensure_learners(
                {item.request.user_id for item in some}, certainly=wait, deadline=latest_deadline(some)
            )
            return await self._store.put_watched(some, wait)

        return await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
