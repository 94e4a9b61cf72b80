"""Three times the load that the stack can serve, sent without waiting for answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from bench.load.plan import GIVEN_UP
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
from bench.overload.school import CLOSED_SECONDS, Run, School
from bench.overload.school import SETTLE_SECONDS as CLOSED_SETTLE_SECONDS
from bench.overload.section import Section, at_least, at_most

MIX = ("list", "start", "answer", "list", "start", "list", "start", "complete", "list", "start")
PRIORITIES = {"high": ("answer", "complete"), "normal": ("start",), "low": ("list",)}
CONNECTIONS = 4_000
ROUNDS = 3
SETTLE_SECONDS = 2.0
"""From the first request until all that is in flight has its size."""
CALM_SECONDS = 5.0
CORES_TOLD_MIN = 0.01
GOODPUT_MIN = 0.8
REFUSAL_MS_MAX = 50.0
GROWTH_MIB_MAX = 50.0
LATER_GROWTH_MIB_MAX = 5.0
"""All connections and all that may be in flight were there in the first round."""


@dataclass(frozen=True, slots=True)
class Round:
    """One time of too much, and the capacity before and after: a machine whose speed changes must not decide.

    Args:
        before, after: the best rate of good answers in a closed loop, a second.
        steady: the calls of the time in which all that is in flight had its size.
        seconds: how long that was.
    """

    before: float
    after: float
    run: Run
    steady: list[Call]
    seconds: float

    @property
    def begin(self) -> float:
        return self.run.began + SETTLE_SECONDS

    @property
    def end(self) -> float:
        return self.begin + self.seconds

    @property
    def goodput(self) -> float:
        return goodput(self.run.calls, self.begin, self.end)

    @property
    def of_peak(self) -> float:
        return ratio(self.goodput, (self.before + self.after) / 2)

    @property
    def refused(self) -> list[Call]:
        return [call for call in self.steady if call.status in REFUSED]

    @property
    def unsent(self) -> list[Call]:
        return [call for call in self.steady if call.status == GIVEN_UP]

    @property
    def refusal_ms(self) -> float:
        """The p99 of refusals, from sending."""
        return percentile((call.wire_seconds for call in self.refused), 99) * 1e3

    @property
    def memory_mib(self) -> float:
        """The most that the gateway had."""
        return self.run.watch.most_mib(self.run.began, math.inf)


async def measure(school: School, *, seconds: int, times: float) -> Section:
    """Raises RuntimeError if the generator failed."""
    before, closed = await school.capacity(MIX)
    best = max(closed, key=lambda each: each.good)
    problems = [each for run in closed for each in run.problems]
    rounds: list[Round] = []
    while len(rounds) < ROUNDS:
        await asyncio.sleep(CALM_SECONDS)
        run = await school.load(
            MIX, seconds=seconds, rate=times * before, connections=CONNECTIONS, ahead=CONNECTIONS
        )
        after, closed = await school.capacity(MIX)
        problems += [each for one in (run, *closed) for each in one.problems]
        steady = between(run.calls, run.began + SETTLE_SECONDS, run.began + seconds)
        rounds.append(Round(before, after, run, steady, seconds - SETTLE_SECONDS))
        before = after
    all_calls = [call for each in rounds for call in each.steady]
    shares = {name: good_share(of_kinds(all_calls, kinds)) for name, kinds in PRIORITIES.items()}
    by_kind = {name: good_share(of_kinds(all_calls, (name,))) for name in dict.fromkeys(MIX)}
    before_mib = rounds[0].run.watch.samples[0].gateway_mib
    peaks = [rounds[0].before, *(each.after for each in rounds)]
    facts = {
        "peak, closed loop, between the rounds": ", ".join(f"{each:,.0f}" for each in peaks) + " a second",
        "offered": (
            ", ".join(f"{times * each.before:,.0f}" for each in rounds)
            + f" a second for {seconds} s each, on {rounds[0].run.connections:,} connections"
        ),
        "goodput": ", ".join(f"{each.goodput:,.0f}" for each in rounds) + " a second",
        "goodput, of the peak before and after": ", ".join(f"{each.of_peak:.2f}" for each in rounds),
        "good answers: p50, p99": _each(
            rounds, lambda each: f"{latency_ms(each.steady, 50):.0f}, {latency_ms(each.steady, 99):.0f} ms"
        ),
        "answers": ", ".join(f"{count:,} × {status}" for status, count in statuses(all_calls).items()),  # noqa: RUF001 - a multiplication sign is meant
        "refused, not sent": _each(
            rounds,
            lambda each: (
                f"{share(len(each.refused), len(each.steady)):.0%}, "
                f"{share(len(each.unsent), len(each.steady)):.0%}"
            ),
        ),
        "refusals, from the schedule: p50, p99": _each(
            rounds, lambda each: _times([call.seconds for call in each.refused])
        ),
        "refusals, from sending: p50, p99": _each(
            rounds, lambda each: _times([call.wire_seconds for call in each.refused])
        ),
        "served of each kind": ", ".join(f"{name} {each:.0%}" for name, each in by_kind.items()),
        "gateway's memory: before, most in each round": (
            f"{before_mib:.0f}, " + ", ".join(f"{each.memory_mib:.0f}" for each in rounds) + " MiB"
        ),
        "cores, with the generator": _each(
            rounds,
            lambda each: (
                f"{_cores(each.run, each.begin, each.end)}, generator {each.run.cpu_seconds / seconds:.2f}"
            ),
        ),
        "cores at the first peak": _cores(
            best, best.began + CLOSED_SETTLE_SECONDS, best.began + CLOSED_SECONDS
        ),
        "lag of the generator, p99": (
            f"{percentile((call.lag_seconds for call in all_calls), 99) * 1e3:.0f} ms"
        ),
    }
    in_order = all(
        good_share(of_kinds(each.steady, higher)) >= good_share(of_kinds(each.steady, lower))
        for each in rounds
        for higher, lower in pairwise(PRIORITIES.values())
    )
    goals = [
        at_least(
            f"goodput, of the peak (median of {ROUNDS} rounds)",
            median(each.of_peak for each in rounds),
            GOODPUT_MIN,
        ),
        at_most(
            f"p99 of refusals in ms, from sending (median of {ROUNDS} rounds)",
            median(each.refusal_ms for each in rounds),
            REFUSAL_MS_MAX,
        ),
        at_least(
            "high before normal before low in each round (1: so it is; "
            + ", ".join(f"{name} {each:.0%}" for name, each in shares.items())
            + ")",
            float(in_order),
            1.0,
        ),
        at_most(
            "growth of the gateway's memory in MiB, after the first round",
            max(each.memory_mib for each in rounds) - rounds[0].memory_mib,
            LATER_GROWTH_MIB_MAX,
        ),
        at_most(
            "growth of the gateway's memory in MiB, over all rounds",
            max(each.memory_mib for each in rounds) - before_mib,
            GROWTH_MIB_MAX,
        ),
    ]
    return Section(
        name="excess",
        title=f"{times:g} times the capacity",
        facts=facts,
        goals=goals,
        problems=problems,
    )


def _each(rounds: Sequence[Round], tell: Callable[[Round], str]) -> str:
    """What is to be told of each round."""
    return "; ".join(map(tell, rounds))


def _cores(run: Run, begin: float, end: float) -> str:
    """How many cores each process used in this time, if it was any."""
    cores = run.watch.cores(begin, end)
    return ", ".join(f"{name} {each:.2f}" for name, each in cores.items() if each >= CORES_TOLD_MIN)


def _times(seconds: list[float]) -> str:
    return f"{percentile(seconds, 50) * 1e3:.1f}, {percentile(seconds, 99) * 1e3:.1f} ms"
