"""Three times the load that the stack can serve, sent without waiting for answers."""

from __future__ import annotations

import asyncio

from bench.load.open_loop import GIVEN_UP
from bench.overload.figures import (
    REFUSED,
    Call,
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
from bench.overload.school import MemorySamples, Run, School
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
    peak, closed = await school.capacity(MIX)
    await asyncio.sleep(CALM_SECONDS)
    before_mib = school.gateway_mib()
    async with MemorySamples(school) as memory:
        run = await school.load(
            MIX, seconds=seconds, rate=times * peak, connections=CONNECTIONS, ahead=CONNECTIONS
        )
    end = run.began + seconds
    steady = between(run.calls, run.began + SETTLE_SECONDS, end)
    served = goodput(run.calls, run.began + SETTLE_SECONDS, end)
    most_mib = memory.most(run.began, end + CALM_SECONDS)
    middle = run.began + seconds / 2
    later_mib = memory.most(middle, end) - memory.most(run.began, middle)
    refused = [call for call in steady if call.status in REFUSED]
    unsent = [call for call in steady if call.status == GIVEN_UP]
    shares = {name: good_share(of_kinds(steady, kinds)) for name, kinds in PRIORITIES.items()}
    by_kind = {name: good_share(of_kinds(steady, (name,))) for name in dict.fromkeys(MIX)}
    facts = {
        "peak, closed loop": f"{peak:,.0f} a second",
        "offered": f"{times * peak:,.0f} a second for {seconds} s, on {run.connections:,} connections",
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
        "gateway: CPU; for a good answer in the closed loop, for a refusal": (
            f"{run.gateway_seconds / seconds:.2f} cores; {_gateway_costs(run, closed)}"
        ),
        "generator: CPU, lag p99": f"{run.cpu_seconds / seconds:.2f} cores, {_lag(steady):.0f} ms",
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
        problems=[*(each for other in closed for each in other.problems), *run.problems],
    )


def _gateway_costs(run: Run, closed: list[Run]) -> str:
    """What the gateway's CPU was for. A good answer is taken to cost what it cost at the peak."""
    peak = max(closed, key=lambda each: each.good)
    good_seconds = ratio(peak.gateway_seconds, peak.good)
    refused = sum(call.status in REFUSED for call in run.calls)
    refusal_seconds = ratio(run.gateway_seconds - run.good * good_seconds, refused)
    return f"{good_seconds * 1e6:.0f}, {refusal_seconds * 1e6:.0f} µs"


def _times(seconds: list[float]) -> str:
    return f"{percentile(seconds, 50) * 1e3:.1f}, {percentile(seconds, 99) * 1e3:.1f} ms"


def _lag(calls: list[Call]) -> float:
    return percentile((call.lag_seconds for call in calls), 99) * 1e3
