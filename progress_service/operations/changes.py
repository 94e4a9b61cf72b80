"""Telling how far the progress of learners has come."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from chassis.batch import Item
from chassis.errors import ServiceError
from chassis.postgres.isolation import run_reads
from progress_service.domain.statistics import UserId
from progress_service.store.learner_versions import VersionStore


class ChangeOperations:
    """Reads for the gateway's event streams."""

    def __init__(self, *, store: VersionStore) -> None:
        self._store = store

    async def read_changes(
        self, items: Sequence[Item[Sequence[UserId]]]
    ) -> list[list[int | ServiceError] | ServiceError]:
        """For each request, the version of each of its learners: one who cannot be read is refused alone.

        Raises ServiceError when no learner can be read.
        """
        return [
            await run_reads(item.request, partial(self._store.read_versions, deadline=item.deadline))
            for item in items
        ]
