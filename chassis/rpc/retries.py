"""When a call is sent again: the policy of its method, what the upstream asks for, and a budget."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from chassis.backoff import full_jitter
from chassis.errors import Reason, ServiceError
from chassis.telemetry.metrics import Metrics

ATTEMPTS_MAX = 3
BACKOFF_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 1.0
RETRIED: AbstractSet[Reason] = frozenset({Reason.UNAVAILABLE})
# After a failed attempt, another one is made only while at least this much time is left.
RETRY_SECONDS_MIN = 0.15
ATTEMPT_BUCKETS = (1.0, 2.0, 3.0, 5.0)


class FinalRefusal(ServiceError):  # noqa: N818 - a refusal, as its base is
    """A refusal of an upstream that asks not to be called again for this call. The client may retry later."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a call of one method is sent again. The contract has it (`MethodPolicy.retry`).

    Args:
        attempts_max: how often a call is sent at most, the first time included.
        backoff_seconds: half of the longest pause before the second attempt; it doubles with each attempt.
        after: the refusals after which the call is sent again.
    """

    attempts_max: int = ATTEMPTS_MAX
    backoff_seconds: float = BACKOFF_SECONDS
    after: AbstractSet[Reason] = RETRIED

    def pause_seconds(self, error: ServiceError, attempt: int) -> float | None:
        """The pause after this refusal of this attempt; None when the call is not sent again.

        The pause is never shorter than the upstream asks for, in RetryInfo or as pushback of gRPC.
        """
        if error.reason not in self.after or attempt >= self.attempts_max or isinstance(error, FinalRefusal):
            return None
        jitter = full_jitter(attempt, base_seconds=self.backoff_seconds, seconds_max=BACKOFF_SECONDS_MAX)
        return jitter + (error.retry_after_seconds or 0.0)


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
        if self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + self._ratio * calls)

    def spend(self) -> bool:
        """Takes one retry from the budget; False when the budget is empty."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class RetryMetrics:
    """Counts attempts and retries, by method. The upstreams of a process share the series."""

    def __init__(self, metrics: Metrics) -> None:
        self._attempts = metrics.histogram(
            "upstream_call_attempts", "How often each call was sent, by method.", ("method",), ATTEMPT_BUCKETS
        )
        self._retries = metrics.counter(
            "upstream_retries",
            "Calls that were sent again, by method and by the refusal before.",
            ("method", "reason"),
        )
        self._forgone = metrics.counter(
            "upstream_retries_forgone",
            "Retries that the policy allows and that were not made, by cause: budget, deadline or breaker.",
            ("method", "cause"),
        )

    def ended(self, method: str, attempts: int, *, calls: int = 1) -> None:
        """Counts calls that got their outcomes."""
        self._attempts.observe((method,), attempts, times=calls)

    def retried(self, method: str, reason: Reason) -> None:
        self._retries.add(method, reason.name)

    def forgone(self, method: str, cause: str) -> None:
        self._forgone.add(method, cause)
