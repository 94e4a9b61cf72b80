"""Days and months, which begin and end in UTC for everyone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta


def end_of_day(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time.min, UTC)


def month_of(moment: datetime) -> date:
    """The first day of the month that a moment is in."""
    return moment.astimezone(UTC).date().replace(day=1)


def start_of_month(month: date) -> datetime:
    return datetime.combine(month, time.min, UTC)


def end_of_month(month: date) -> datetime:
    """When the month that begins on this day ends."""
    return start_of_month((month + timedelta(days=31)).replace(day=1))
