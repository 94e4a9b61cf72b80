"""Comparing two stores: two lists in the order of one key, a stretch of each at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from chassis.diagnostics.checks import Place

L = TypeVar("L")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Listed(Generic[L]):
    """A stretch of one list. `complete` says that the list has no more rows behind it."""

    rows: Sequence[L]
    complete: bool


@dataclass(frozen=True, slots=True)
class Aligned(Generic[L, R]):
    """Rows of two lists by key, in order. `reached` is the last key that both stretches have covered."""

    pairs: Sequence[tuple[Place, L | None, R | None]]
    reached: Place | None


def align(
    left: Listed[L],
    right: Listed[R],
    *,
    left_key: Callable[[L], Place],
    right_key: Callable[[R], Place],
) -> Aligned[L, R]:
    """Pair the rows of two stretches that begin behind the same place.

    A stretch that is not complete says nothing about what comes behind its last row, so the pairs end there;
    the next stretches begin behind `reached`. Both lists must be in the order of their keys, by the bytes of
    their texts (COLLATE "C"), and each key is in a list at most once.
    """
    ends: list[Place] = []
    if left.rows and not left.complete:
        ends.append(left_key(left.rows[-1]))
    if right.rows and not right.complete:
        ends.append(right_key(right.rows[-1]))
    end = min(ends, key=_ordered) if ends else None
    lefts = {left_key(row): row for row in left.rows}
    rights = {right_key(row): row for row in right.rows}
    keys = sorted(lefts.keys() | rights.keys(), key=_ordered)
    pairs = [
        (key, lefts.get(key), rights.get(key))
        for key in keys
        if end is None or _ordered(key) <= _ordered(end)
    ]
    return Aligned(pairs, end)


def _ordered(place: Place) -> tuple[bytes, ...]:
    """PostgreSQL orders texts with COLLATE "C" by their bytes (PostgreSQL 18, 23.2.2.1)."""
    return tuple(text.encode() for text in place)
