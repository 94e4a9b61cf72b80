"""The daily quota of tests: the used and the held units of a UTC day, and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from chassis.errors import Reason, ServiceError
from subscription_service.domain.utc_calendar import end_of_day


@dataclass(slots=True)
class DayUsage:
    """The test units of one UTC day. A day without a row has zero of both."""

    day: date
    held: int = 0
    used: int = 0

    def refusal(self, tests: int, limit: int | None) -> ServiceError | None:
        """The refusal to hold this many more units today, or None when they may be held."""
        if tests == 0 or limit is None or self.used + self.held + tests <= limit:
            return None
        return ServiceError(
            Reason.DAILY_LIMIT_REACHED,
            f"All {limit} tests of today are used or in progress",
            metadata={
                "limit": limit,
                "used": self.used,
                "held": self.held,
                "resetsAt": end_of_day(self.day).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        )

    def remaining(self, limit: int | None) -> int | None:
        """Units that can still be taken; None without a limit. Never negative, also under a lowered limit."""
        return None if limit is None else max(0, limit - self.used - self.held)
