"""How long to wait before the next attempt."""

from __future__ import annotations

import random


def full_jitter(attempt: int, *, base_seconds: float, seconds_max: float) -> float:
    """A random pause, from 0 to `base_seconds` doubled with each attempt.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    ceiling = min(seconds_max, base_seconds * 2 ** min(attempt, 16))
    return random.uniform(0, ceiling)  # noqa: S311 - jitter is no secret
