"""Read a learner's attempts at a test."""

from __future__ import annotations

from chassis.batch import Item
from session_service.domain.attempts import AttemptSummary
from session_service.domain.missing import no_such_test
from session_service.store.attempts import AttemptStore


class AttemptReads:
    """Reads for the learner who asks."""

    def __init__(self, *, attempts: AttemptStore) -> None:
        self._attempts = attempts

    async def get_summary(self, item: Item[str]) -> AttemptSummary:
        """The attempts in sum; raises ServiceError with NOT_FOUND if there is no such test."""
        summary = await self._attempts.get_summary(item)
        if summary is None:
            raise no_such_test(item.request)
        return summary
