"""The one way in which a replay fails."""

from __future__ import annotations


class ReplayError(Exception):
    """The replay cannot come to an end; the message says why."""
