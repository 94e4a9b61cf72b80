"""One service is killed and stays away, at a constant load on all of them; then it comes back."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.overload.figures import (
    REFUSED,
    Call,
    between,
    good_share,
    healed_after,
    latency_ms,
    of_kinds,
    percentile,
    ratio,
    statuses,
)
from bench.overload.school import Attempts, School, difference
from bench.overload.section import Section, at_least, at_most
from bench.results import Goal
from homeroom import probe

KINDS = {
    "session_service": ("read", "answer", "list"),
    "progress_service": ("access",),
    "subscription_service": ("entitlements",),
}
"""What learners ask each service for. Each call needs no other service than this one."""
MIX = ("read", "access", "entitlements", "answer", "access", "entitlements", "list")
CONNECTIONS = 1_000
LEAD_SECONDS = 5.0
"""The generator starts and its connections are opened; then the baseline begins."""
START_SECONDS_MAX = 10.0
HEAL_SECONDS = 10.0
POLL_SECONDS = 0.02
ATTEMPTS_MAX = 1.1
SLOWER_MAX = 1.5
HEALED_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Times:
    """When the baseline and the failure began, when it ended, and when the service was ready."""

    baseline: float
    killed: float
    released: float
    ready: float


async def measure(school: School, service: str, *, seconds: int, load: float) -> Section:
    """Kills the service for these seconds, at this share of the capacity.

    Raises:
        RuntimeError: the generator failed, or the service did not come back.
    """
    capacity, closed = await school.capacity(MIX)
    rate = load * capacity
    length = LEAD_SECONDS + 2 * seconds + START_SECONDS_MAX + HEAL_SECONDS
    begin = time.monotonic() + LEAD_SECONDS
    loading = asyncio.create_task(school.load(MIX, seconds=length, rate=rate, connections=CONNECTIONS))
    try:
        times, attempts = await _fail(school, service, begin, seconds)
        run = await loading
    finally:
        loading.cancel()
    facts = {
        "capacity, closed loop": f"{capacity:,.0f} a second",
        "offered": f"{rate:,.0f} a second ({load:.0%}), {seconds} s before and {seconds} s without {service}",
    }
    facts["calls to the service, attempts, retries"] = (
        f"{attempts.calls:,.0f}, {attempts.attempts:,.0f}, {attempts.retries:,.0f}"
    )
    goals = [
        at_most(
            "attempts at the service, of the calls", ratio(attempts.attempts, attempts.calls), ATTEMPTS_MAX
        ),
        *_tell(service, run.calls, times, facts),
    ]
    late = [] if run.began < times.baseline else ["the generator began after the baseline"]
    return Section(
        name="failing",
        title=f"{service} is down",
        facts=facts,
        goals=goals,
        problems=[*(each for other in closed for each in other.problems), *run.problems, *late],
    )


async def _fail(school: School, service: str, begin: float, seconds: float) -> tuple[Times, Attempts]:
    stack = school.stack
    await asyncio.sleep(begin + seconds - time.monotonic())
    before = await school.attempts(service)
    with stack.data.holding([service]):
        killed = time.monotonic()
        await stack.kill(service)
        await asyncio.sleep(killed + seconds - time.monotonic())
        after = await school.attempts(service)
        released = time.monotonic()
    while True:
        answer = await probe.get(stack.address(service).ops_port, "/readyz")
        if answer is not None and answer.status == 200:
            break
        if time.monotonic() > released + START_SECONDS_MAX:
            raise RuntimeError(
                f"{service} was not ready {START_SECONDS_MAX:g} s after the end of its failure"
            )
        await asyncio.sleep(POLL_SECONDS)
    return Times(begin, killed, released, time.monotonic()), difference(after, before)


def _tell(service: str, calls: Sequence[Call], times: Times, facts: dict[str, str]) -> list[Goal]:
    """The goals that these calls decide; what was seen is added to the facts."""
    goals = []
    before = between(calls, times.baseline, times.killed)
    during = between(calls, times.killed, times.released)
    for other, kinds in KINDS.items():
        was, is_now = of_kinds(before, kinds), of_kinds(during, kinds)
        facts[f"{other}, before: p50, p99"] = _latencies(was)
        if other == service:
            refused = [call.seconds for call in is_now if call.status in REFUSED]
            facts[f"{other}, without it: answers"] = _statuses(is_now)
            facts[f"{other}, without it: refusals, p50, p99"] = (
                f"{percentile(refused, 50) * 1e3:.1f}, {percentile(refused, 99) * 1e3:.1f} ms"
            )
            continue
        facts[f"{other}, meanwhile: p50, p99; answers"] = f"{_latencies(is_now)}; {_statuses(is_now)}"
        slower = ratio(latency_ms(is_now, 99), latency_ms(was, 99))
        goals.append(at_most(f"p99 of {other} meanwhile, of the baseline", slower, SLOWER_MAX))
        goals.append(at_least(f"good answers of {other} meanwhile", good_share(is_now), HEALED_SHARE))
    theirs = of_kinds(calls, KINDS[service])
    until = times.ready + HEAL_SECONDS
    healed = healed_after(theirs, times.ready, wanted=HEALED_SHARE, until=until)
    facts["ready again after"] = f"{times.ready - times.released:.1f} s"
    facts["good answers in each second since"] = ", ".join(
        f"{good_share(between(theirs, times.ready + each, times.ready + each + 1)):.0%}"
        for each in range(int(HEAL_SECONDS))
    )
    goals.append(
        at_most(
            "seconds to 95 % good answers after it is ready", math.inf if healed is None else healed, 10.0
        )
    )
    return goals


def _latencies(calls: list[Call]) -> str:
    return f"{latency_ms(calls, 50):.1f}, {latency_ms(calls, 99):.1f} ms"


def _statuses(calls: list[Call]) -> str:
    return ", ".join(f"{count:,} × {status}" for status, count in statuses(calls).items())  # noqa: RUF001 - a multiplication sign is meant
