"""GetStats: what a learner has achieved until now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from chassis.batch import Item, latest_deadline
from progress_service.domain.statistics import Statistics, UserId
from progress_service.domain.streaks import streak_days
from progress_service.store.statistics import LearnerReport, StatisticsStore


@dataclass(frozen=True, slots=True)
class LearnerStats:
    """A learner's totals, and their streak in days."""

    statistics: Statistics
    streak_days: int


class StatisticsOperations:
    """The operations that read statistics."""

    def __init__(self, *, store: StatisticsStore) -> None:
        self._store = store

    async def get_stats(
        self, items: Sequence[Item[UserId]], *, today: date | None = None
    ) -> list[LearnerStats]:
        """The stats of each of these learners; a learner without any result has zeros.

        `today` replaces the database's UTC day. Raises what `Database` raises.
        """
        user_ids = [item.request for item in items]
        reports = await self._store.select_reports(user_ids, deadline=latest_deadline(items), today=today)
        return [_stats(report) for report in reports]


def _stats(report: LearnerReport) -> LearnerStats:
    return LearnerStats(report.statistics, streak_days(report.latest_run, today=report.today))
