"""The result of a load, from either generator."""

from __future__ import annotations

import msgspec


class LoadOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and latencies of one run: the requests that were `sent`, and the good answers, `succeeded`."""

    seconds: float
    sent: int
    succeeded: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    generator_cpu_seconds: float
    problems: list[str]

    @classmethod
    def of_failure(cls, problem: str, *, seconds: float) -> LoadOutcome:
        """A run without a single good answer."""
        return cls(
            seconds=seconds,
            sent=0,
            succeeded=0,
            p50_ms=0.0,
            p90_ms=0.0,
            p99_ms=0.0,
            max_ms=0.0,
            generator_cpu_seconds=0.0,
            problems=[problem],
        )

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.succeeded / self.seconds
