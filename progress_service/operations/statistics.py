"""GetStats: what a learner has achieved until now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from chassis.errors import Reason, ServiceError
from chassis.postgres import DataRefused
from progress_service.domain.statistics import Statistics, UserId
from progress_service.domain.streaks import streak_days
from progress_service.store.statistics import LearnerReport, StatisticsStore


@dataclass(frozen=True, slots=True)
class LearnerStats:
    """A learner's totals, and their streak in days."""

    statistics: Statistics
    streak_days: int


class StatisticsOperations:
    """Everything that is asked of statistics."""

    def __init__(self, *, store: StatisticsStore) -> None:
        self._store = store

    async def get_stats(
        self, user_ids: Sequence[UserId], *, deadline: float, today: date | None = None
    ) -> list[LearnerStats | ServiceError]:
        """The stats of each of these learners; one of whom nothing was ever recorded has zeros.

        `today` stands in for the database's UTC day. INVALID_USER_REFERENCE for an id that no learner can
        have; raises ServiceError when the database cannot answer.
        """
        try:
            reports = await self._store.select_reports(user_ids, deadline=deadline, today=today)
        except DataRefused:
            if len(user_ids) == 1:
                return [ServiceError(Reason.INVALID_USER_REFERENCE)]
            alone = [await self.get_stats([each], deadline=deadline, today=today) for each in user_ids]
            return [stats for (stats,) in alone]
        return [_stats(report) for report in reports]


def _stats(report: LearnerReport) -> LearnerStats:
    return LearnerStats(report.statistics, streak_days(report.latest_run, today=report.today))
