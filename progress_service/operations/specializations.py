"""Changing the catalog of specializations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chassis.batch import Item
from chassis.errors import ServiceError
from chassis.postgres.isolation import run_isolated
from progress_service.domain.specializations import Specialization
from progress_service.store.specializations import SpecializationStore


class SpecializationOperations:
    """The operations on the catalog. `wake_raising` is called after each change of it."""

    def __init__(self, *, store: SpecializationStore, wake_raising: Callable[[], object]) -> None:
        self._store = store
        self._wake_raising = wake_raising

    async def put_specializations(
        self, items: Sequence[Item[Specialization]]
    ) -> list[Specialization | ServiceError]:
        """Create or replace each. Nobody loses a level; who meets a requirement now is raised soon."""

        async def attempt(some: Sequence[Item[Specialization]], _wait: bool) -> list[Specialization]:
            return await self._store.put_specializations(some)

        outcomes = await run_isolated(items, attempt, owner_of=lambda item: item.request.specialization)
        self._wake_raising()
        return outcomes
