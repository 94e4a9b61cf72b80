"""Thousands of connections that never finish a request, beside learners who behave."""

from __future__ import annotations

import asyncio
import sys
import time
from urllib.parse import urlsplit

import msgspec

from bench.load.generator import run_generator
from bench.load.slow_connections import Crowd
from bench.overload.failing import MIX
from bench.overload.figures import between, good_share, latency_ms, ratio
from bench.overload.school import School, generator_environment
from bench.overload.section import Section, at_least, at_most

LOAD = 0.3
"""The share of the capacity that the polite ones ask for: the slow ones are to be seen, not a queue."""
CONNECTIONS = 200
LEAD_SECONDS = 5.0
PAUSE_SECONDS = 3.0
"""Between two bytes of a slow connection."""
GROWTH_MIB_MAX = 50.0
SLOWER_MAX = 1.5
GOOD_SHARE_MIN = 0.999


async def measure(school: School, *, seconds: int, connections: int) -> Section:
    """Raises RuntimeError if a generator failed."""
    capacity, closed = await school.capacity(MIX)
    rate = LOAD * capacity
    begin = time.monotonic() + LEAD_SECONDS
    polite = asyncio.create_task(
        school.load(MIX, seconds=LEAD_SECONDS + 2 * seconds, rate=rate, connections=CONNECTIONS)
    )
    try:
        await asyncio.sleep(begin + seconds - time.monotonic())
        came = time.monotonic()
        crowd, seen = await asyncio.gather(
            _crowd(school, connections, seconds), school.gauge("connections", came + seconds - 1.0)
        )
        run = await polite
    finally:
        polite.cancel()
    left = came + seconds
    before, beside = between(run.calls, begin, came), between(run.calls, came, left)
    before_mib, most_mib = run.watch.most_mib(begin, came), run.watch.most_mib(came, left)
    facts = {
        "polite calls": f"{rate:,.0f} a second ({LOAD:.0%} of {capacity:,.0f})",
        "slow connections: asked for, possible here, most at once": (
            f"{connections:,}, {crowd.wanted:,}, {crowd.open_max:,}; the gateway counted {seen:,.0f} in all"
        ),
        "bytes, connections that the gateway closed": f"{crowd.bytes_sent:,}, {crowd.closed_by_gateway:,}",
        "polite, before: p50, p99": f"{latency_ms(before, 50):.1f}, {latency_ms(before, 99):.1f} ms",
        "polite, beside them: p50, p99": f"{latency_ms(beside, 50):.1f}, {latency_ms(beside, 99):.1f} ms",
        "gateway's memory: before, most": f"{before_mib:.0f}, {most_mib:.0f} MiB",
    }
    goals = [
        at_most("growth of the gateway's memory in MiB", most_mib - before_mib, GROWTH_MIB_MAX),
        at_most(
            "p99 of the polite ones, of the baseline",
            ratio(latency_ms(beside, 99), latency_ms(before, 99)),
            SLOWER_MAX,
        ),
        at_least("good answers of the polite ones", good_share(beside), GOOD_SHARE_MIN),
    ]
    problems = [*(each for other in closed for each in other.problems), *run.problems]
    if crowd.open_max < crowd.wanted:
        problems.append(f"only {crowd.open_max:,} of {crowd.wanted:,} slow connections were open at once")
    if run.began >= begin:
        problems.append("the generator began after the baseline")
    return Section(name="slow", title="slow connections", facts=facts, goals=goals, problems=problems)


async def _crowd(school: School, connections: int, seconds: float) -> Crowd:
    port = str(urlsplit(school.stack.gateway_url).port)
    command = [sys.executable, "-P", "-m", "bench.load.slow_connections"]
    command += [port, str(connections), f"{seconds:g}", f"{PAUSE_SECONDS:g}"]
    output, _ = await run_generator(command, seconds=seconds, environment=generator_environment())
    return msgspec.json.decode(output, type=Crowd)
