"""The error of a replay."""

from __future__ import annotations


class ReplayError(Exception):
    """The replay cannot be finished; the message says why."""
