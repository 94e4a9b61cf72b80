"""Three times the load that the stack can serve, sent without waiting for answers."""

from __future__ import annotations

import asyncio
import math

from bench.load.plan import GIVEN_UP
from bench.overload.figures import (
    REFUSED,
    between,
    good_share,
    goodput,
    latency_ms,
    of_kinds,
    percentile,
    ratio,
    share,
    statuses,
)
from bench.overload.school import CLOSED_SECONDS, Run, School
from bench.overload.school import SETTLE_SECONDS as CLOSED_SETTLE_SECONDS
from bench.overload.section import Section, at_least, at_most

MIX = ("list", "start", "answer", "list", "start", "list", "start", "complete", "list", "start")
PRIORITIES = {"high": ("answer", "complete"), "normal": ("start",), "low": ("list",)}
CONNECTIONS = 4_000
SETTLE_SECONDS = 2.0
"""From the first request until all that is in flight has its size."""
CALM_SECONDS = 5.0
GOODPUT_MIN = 0.8
REFUSAL_MS_MAX = 50.0
GROWTH_MIB_MAX = 50.0


async def measure(school: School, *, seconds: int, times: float) -> Section:
    """Raises RuntimeError if the generator failed."""
    first, closed = await school.capacity(MIX)
    best = max(closed, key=lambda each: each.good)
    await asyncio.sleep(CALM_SECONDS)
    run = await school.load(
        MIX, seconds=seconds, rate=times * first, connections=CONNECTIONS, ahead=CONNECTIONS
    )
    # A machine whose speed changes must not decide: the peak is that of before and after.
    second, more = await school.capacity(MIX)
    peak = (first + second) / 2
    begin, end = run.began + SETTLE_SECONDS, run.began + seconds
    steady = between(run.calls, begin, end)
    served = goodput(run.calls, begin, end)
    most_mib = run.watch.most_mib(run.began, math.inf)
    before_mib = run.watch.samples[0].gateway_mib
    middle = run.began + seconds / 2
    later_mib = run.watch.most_mib(middle, end) - run.watch.most_mib(run.began, middle)
    refused = [call for call in steady if call.status in REFUSED]
    unsent = [call for call in steady if call.status == GIVEN_UP]
    shares = {name: good_share(of_kinds(steady, kinds)) for name, kinds in PRIORITIES.items()}
    by_kind = {name: good_share(of_kinds(steady, (name,))) for name in dict.fromkeys(MIX)}
    facts = {
        "peak, closed loop, before and after": f"{first:,.0f}, {second:,.0f} a second",
        "offered": f"{times * first:,.0f} a second for {seconds} s, on {run.connections:,} connections",
        "goodput": f"{served:,.0f} a second",
        "good answers: p50, p99": f"{latency_ms(steady, 50):.0f}, {latency_ms(steady, 99):.0f} ms",
        "answers": ", ".join(f"{count:,} × {status}" for status, count in statuses(steady).items()),  # noqa: RUF001 - a multiplication sign is meant
        "refused, not sent": f"{share(len(refused), len(steady)):.0%}, {share(len(unsent), len(steady)):.0%}",
        "refusals, from the schedule: p50, p99": _times([call.seconds for call in refused]),
        "refusals, from sending: p50, p99": _times([call.wire_seconds for call in refused]),
        "served of each kind": ", ".join(f"{name} {each:.0%}" for name, each in by_kind.items()),
        "gateway's memory: before, most, growth in the second half": (
            f"{before_mib:.0f}, {most_mib:.0f}, {later_mib:+.0f} MiB"
        ),
        "cores, with the generator": f"{_cores(run, begin, end)}, generator {run.cpu_seconds / seconds:.2f}",
        "cores at the peak": _cores(best, best.began + CLOSED_SETTLE_SECONDS, best.began + CLOSED_SECONDS),
        "lag of the generator, p99": f"{percentile((call.lag_seconds for call in steady), 99) * 1e3:.0f} ms",
    }
    order = shares["high"] >= shares["normal"] >= shares["low"]
    goals = [
        at_least("goodput, of the peak", ratio(served, peak), GOODPUT_MIN),
        at_most(
            "p99 of refusals in ms, from sending",
            percentile((call.wire_seconds for call in refused), 99) * 1e3,
            REFUSAL_MS_MAX,
        ),
        at_least(
            "high before normal before low (1: so it is; "
            + ", ".join(f"{name} {each:.0%}" for name, each in shares.items())
            + ")",
            float(order),
            1.0,
        ),
        at_most("growth of the gateway's memory in MiB", most_mib - before_mib, GROWTH_MIB_MAX),
    ]
    return Section(
        name="excess",
        title=f"{times:g} times the capacity",
        facts=facts,
        goals=goals,
        problems=[*(each for other in (*closed, *more) for each in other.problems), *run.problems],
    )


def _cores(run: Run, begin: float, end: float) -> str:
    """How many cores each process used in this time."""
    return ", ".join(f"{name} {each:.2f}" for name, each in run.watch.cores(begin, end).items())


def _times(seconds: list[float]) -> str:
    return f"{percentile(seconds, 50) * 1e3:.1f}, {percentile(seconds, 99) * 1e3:.1f} ms"
