"""The daily quota of tests: what is used and held of a UTC day, and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from chassis.errors import Reason, ServiceError
from subscription_service.domain.utc_calendar import end_of_day


@dataclass(slots=True)
class DayUsage:
    """The test units of one UTC day; a day that nothing was written for is all zeros."""

    day: date
    held: int = 0
    used: int = 0

    def refusal(self, tests: int, limit: int | None) -> ServiceError | None:
        """Why this many more units may not be held today, or None when they may."""
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
        """Units that can still be taken; None without a limit, and never below zero under a lowered one."""
        return None if limit is None else max(0, limit - self.used - self.held)
