"""Identifiers that sort by the time at which they were made (UUID version 7, RFC 9562)."""

from __future__ import annotations

import os
import threading
import time
import uuid

_COUNTER_BITS = 12
_RANDOM_BITS = 62
_VERSION = 7 << 76
_VARIANT = 0b10 << 62

_lock = threading.Lock()
_latest = 0  # milliseconds and counter of the newest id: 48 + 12 bits


def uuid7() -> uuid.UUID:
    """A new id, greater than every id that this process has made before.

    The 12 bits after the milliseconds are a counter within one millisecond (RFC 9562, 6.2, method 1). It
    starts at a random number in its lower half. When it overflows, or when the clock steps back, the next id
    is the newest id plus one. So the order holds, and the time in the ids runs ahead as little as possible.
    """
    global _latest  # noqa: PLW0603 — the order is a promise of the whole process
    random = int.from_bytes(os.urandom(10), "big")
    start = (random >> _RANDOM_BITS) & ((1 << (_COUNTER_BITS - 1)) - 1)
    candidate = (time.time_ns() // 1_000_000 << _COUNTER_BITS) | start
    with _lock:
        # In the same millisecond, the candidate's counter is not used: the newest id plus one is.
        same_or_earlier = candidate >> _COUNTER_BITS <= _latest >> _COUNTER_BITS
        _latest = _latest + 1 if same_or_earlier else candidate
        latest = _latest
    milliseconds, counter = divmod(latest, 1 << _COUNTER_BITS)
    low = random & ((1 << _RANDOM_BITS) - 1)
    return uuid.UUID(int=(milliseconds << 80) | _VERSION | (counter << 64) | _VARIANT | low)
