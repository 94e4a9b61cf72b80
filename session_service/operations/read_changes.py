"""Tell what has changed in the sessions of learners."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from chassis.batch import Item
from chassis.errors import ServiceError
from chassis.postgres.isolation import run_reads
from session_service.domain.changes import SessionChanges, SessionPosition
from session_service.store.session_changes import SessionChangeStore


class SessionChangeReads:
    """Reads for the gateway's event streams."""

    def __init__(self, *, store: SessionChangeStore) -> None:
        self._store = store

    async def read_changes(
        self, items: Sequence[Item[Sequence[SessionPosition]]]
    ) -> list[list[SessionChanges | ServiceError] | ServiceError]:
        """For each request, the outcome of each of its learners: one who cannot be read is refused alone.

        Raises ServiceError when no learner can be read.
        """
        return [
            await run_reads(item.request, partial(self._store.read_changes, deadline=item.deadline))
            for item in items
        ]
