"""The time of a decision: the database's clock, unless a test has pinned it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

PinnedTime = Callable[[], datetime | None]
"""A time that every statement uses in place of the database's clock; None pins nothing."""


def database_time() -> datetime | None:
    """Pin nothing: the database's own clock counts."""
    return None
