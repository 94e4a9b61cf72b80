"""When to retry: a budget, and a breaker that stops calls to a dead upstream."""

from __future__ import annotations

import time

from chassis.errors import Reason, ServiceError

ATTEMPTS_MAX = 3
BACKOFF_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 1.0


class RetryBudget:
    """Limits retries to a share of all calls, so that retries cannot overload an upstream that has a fault.

    A token bucket, as in gRPC's retry throttling (gRFC A6): each call earns `ratio` tokens, each retry spends
    one token. The bucket has room for `burst` tokens and begins full, so that a client with few calls may
    also retry.
    """

    def __init__(self, *, ratio: float = 0.1, burst: float = 20.0) -> None:
        self._ratio = ratio
        self._burst = burst
        self._tokens = burst

    def earn(self, calls: int = 1) -> None:
        self._tokens = min(self._burst, self._tokens + self._ratio * calls)

    def spend(self) -> bool:
        """Takes one retry from the budget; False when the budget is empty."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Breaker:
    """A circuit breaker: it opens after several failures in a row, and closes when a probe succeeds.

    A failure is a message without an answer. A refusal is an answer. One probe at a time is let through.
    """

    def __init__(self, *, failures_max: int = 5, cool_down_seconds: float = 0.5) -> None:
        self._failures_max = failures_max
        self._cool_down_seconds = cool_down_seconds
        self._failures = 0
        self._probe_at = 0.0

    @property
    def open(self) -> bool:
        return self._failures >= self._failures_max

    def check(self) -> None:
        """Admits a call, or refuses it.

        Raises:
            ServiceError: UNAVAILABLE, with the time after which to retry.
        """
        if self._failures < self._failures_max:
            return
        now = time.monotonic()
        if now < self._probe_at:
            raise ServiceError(Reason.UNAVAILABLE, retry_after_seconds=max(self._probe_at - now, 0.05))
        # This call is the probe. The others are refused until its outcome is known.
        self._probe_at = now + self._cool_down_seconds

    def succeeded(self) -> None:
        self._failures = 0

    def undecided(self) -> None:
        """The message shows nothing about the upstream: the next call may be the probe, without a pause."""
        self._probe_at = 0.0

    def failed(self) -> None:
        self._failures += 1
        if self._failures == self._failures_max:
            self._probe_at = time.monotonic() + self._cool_down_seconds
