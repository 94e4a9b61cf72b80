"""Counts, from the database's 64 bits to the contract's 32."""

from __future__ import annotations

COUNT_SHOWN_MAX = 2**31 - 1
"""The counts of the contract are int32. A greater count, exact in the database, is shown as this one."""


def shown(count: int) -> int:
    """A count as the contract can show it."""
    return min(count, COUNT_SHOWN_MAX)
