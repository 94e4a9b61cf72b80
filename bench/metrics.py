"""`python -m bench.metrics`: the CPU of counting one call, our metrics against prometheus_client's own.

The cost there includes `labels(...)`, because the labels of a call are known only when it ends.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram

from chassis.telemetry.metrics import CALL_BUCKETS_SECONDS, Metrics

CALLS = 100_000
PAIRS = 15
METHODS = [f"/homeroom.session.v1.SessionService/Method{number}" for number in range(16)]


def main() -> None:
    metrics, registry = Metrics(service="bench"), CollectorRegistry()
    histogram = Histogram(
        "call_seconds", "Calls.", ("method", "code"), buckets=CALL_BUCKETS_SECONDS, registry=registry
    )
    counter = Counter("failures", "Failures.", ("method",), registry=registry)
    our_counter = metrics.counter("failures", "Failures.", ("method",))
    print(f"CPU per observation in µs, median of {PAIRS} pairs (least, most)\n")
    print(f"{'':24}{'ours':>22}{'prometheus_client':>22}")
    compare(
        "histogram, two labels",
        lambda method: metrics.observe_call(method, "OK", 0.012),
        lambda method: histogram.labels(method, "OK").observe(0.012),
    )
    compare(
        "counter, one label",
        our_counter.add,
        lambda method: counter.labels(method).inc(),
    )


def compare(title: str, *ways: Callable[[str], object]) -> None:
    costs: list[list[float]] = [[] for _ in ways]
    for pair in range(PAIRS):
        order = range(len(ways)) if pair % 2 else range(len(ways) - 1, -1, -1)
        for way in order:
            costs[way].append(cpu_us(ways[way]))
    print(f"{title:24}" + "".join(f"{shown(each):>22}" for each in costs))


def cpu_us(observe: Callable[[str], object]) -> float:
    began = time.process_time()
    for number in range(CALLS):
        observe(METHODS[number % len(METHODS)])
    return (time.process_time() - began) / CALLS * 1e6


def shown(costs: list[float]) -> str:
    return f"{statistics.median(costs):.2f} ({min(costs):.2f}, {max(costs):.2f})"


if __name__ == "__main__":
    main()
