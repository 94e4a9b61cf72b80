"""The time that decisions are made at: the database's, unless a test has pinned it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

PinnedTime = Callable[[], datetime | None]
"""What every read statement takes in place of the database's time when it is not None."""


def database_time() -> datetime | None:
    """Pin nothing: the database's own clock counts."""
    return None
