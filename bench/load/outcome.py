"""What a load generator says after a run, whichever it is."""

from __future__ import annotations

import msgspec


class LoadOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and latencies of one run. `sent` is what was asked; `succeeded` what was answered well."""

    seconds: float
    sent: int
    succeeded: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    generator_cpu_seconds: float
    problems: list[str]

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.succeeded / self.seconds
