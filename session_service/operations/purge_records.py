"""Background work: deletes answers and timelines of sessions that ended longer ago than they are kept."""

from __future__ import annotations

from chassis.process.background import AT_ONCE, step_deadline
from chassis.telemetry.metrics import Metrics
from session_service.domain.timing import Retention
from session_service.store.purges import PurgedTable, PurgeStore


class RecordPurge:
    """One step at a time for each table; any number of replicas may do so.

    Args:
        retention: how long the rows of each table are kept.
    """

    def __init__(self, *, purges: PurgeStore, retention: Retention, metrics: Metrics) -> None:
        self._purges = purges
        self._keep = {
            PurgedTable.ANSWERS: retention.answers,
            PurgedTable.SESSION_EVENTS: retention.timeline,
        }
        self._rows = metrics.counter(
            "records_purged",
            "Rows that were deleted when their time was over, by their table.",
            ("table",),
        )

    async def purge(self) -> float | None:
        """Delete a bounded number of rows of each table; returns AT_ONCE while there is more to delete."""
        more = False
        for table, kept in self._keep.items():
            purged = await self._purges.purge(table, older_than=kept, deadline=step_deadline())
            self._rows.add(table.value, amount=purged.rows)
            more |= purged.more
        return AT_ONCE if more else None
