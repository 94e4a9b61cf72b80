"""The arithmetic of the bench of overload: calls in a window of time, their shares, rates and percentiles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.load.plan import GIVEN_UP, Outcome

GOOD = range(200, 300)
REFUSED = frozenset({429, 503})
EXPECTED = frozenset({*GOOD, 429, 503, 504, GIVEN_UP})
"""What a client may see while there is too much or something is down. Everything else is a fault."""
LAG_SECONDS_MAX = 0.25
"""A generator that came to a hundredth of its requests later than this did not keep its schedule."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request; times in seconds.

    Args:
        due: when it was to be sent.
        seconds: from then until its answer.
        wire_seconds: from the time when it was sent until its answer.
        lag_seconds: how late the generator came to it.
        status: 0 without an answer; 1 if it was not sent, because no connection became free in time.
    """

    kind: str
    due: float
    seconds: float
    wire_seconds: float
    lag_seconds: float
    status: int

    @property
    def good(self) -> bool:
        return self.status in GOOD

    @property
    def ended(self) -> float:
        return self.due + self.seconds


def calls_of(outcome: Outcome, names: Sequence[str]) -> list[Call]:
    """The calls of a run; `names` are those of the kinds. One without an answer has endless seconds."""
    columns = zip(
        outcome.kinds,
        outcome.due,
        outcome.taken,
        outcome.sent,
        outcome.ended,
        outcome.statuses,
        strict=True,
    )
    return [
        Call(
            kind=names[kind],
            due=due,
            seconds=ended - due if status > GIVEN_UP else math.inf,
            wire_seconds=ended - sent if status > GIVEN_UP else math.inf,
            lag_seconds=taken - due,
            status=status,
        )
        for kind, due, taken, sent, ended, status in columns
    ]


def between(calls: Iterable[Call], begin: float, end: float) -> list[Call]:
    """The calls that were due in this time."""
    return [call for call in calls if begin <= call.due < end]


def of_kinds(calls: Iterable[Call], names: Collection[str]) -> list[Call]:
    return [call for call in calls if call.kind in names]


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that this share of the values does not exceed; 0 without values."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def latency_ms(calls: Iterable[Call], percent: float) -> float:
    """A percentile of the good answers' latencies from the scheduled times."""
    return percentile((call.seconds for call in calls if call.good), percent) * 1e3


def share(part: float, whole: float) -> float:
    """0 of nothing."""
    return part / whole if whole else 0.0


def good_share(calls: Sequence[Call]) -> float:
    return share(sum(call.good for call in calls), len(calls))


def goodput(calls: Iterable[Call], begin: float, end: float) -> float:
    """The good answers of a second, by the time at which they came."""
    return sum(call.good and begin <= call.ended < end for call in calls) / (end - begin)


def healed_after(calls: Sequence[Call], healed: float, *, wanted: float, until: float) -> float | None:
    """The whole seconds after which at least this share of each later second's calls was good.

    None if even the last second before `until` has a lower share.
    """
    seconds = max(0, math.floor(until - healed))
    good_from: int | None = None
    for second in range(seconds):
        due = between(calls, healed + second, healed + second + 1)
        if good_share(due) < wanted:
            good_from = None
        elif good_from is None:
            good_from = second
    return None if good_from is None else float(good_from)


def statuses(calls: Iterable[Call]) -> Mapping[int, int]:
    return dict(sorted(Counter(call.status for call in calls).items()))


def ratio(now: float, before: float) -> float:
    """How many times as much; endless if there was nothing before."""
    return now / before if before else math.inf


def problems_of(calls: Sequence[Call], *, planned: int) -> list[str]:
    """The reasons why a run by schedule proves nothing, or shows a fault; none for a good one."""
    problems = []
    unexpected = {status: count for status, count in statuses(calls).items() if status not in EXPECTED}
    if unexpected:
        told = ", ".join(
            f"{count} × {status or 'no answer'}"  # noqa: RUF001 - a multiplication sign is meant
            for status, count in unexpected.items()
        )
        problems.append(f"unexpected answers: {told}")
    if len(calls) < planned:
        problems.append(f"{planned - len(calls)} of {planned} requests were never sent")
    lag = percentile((call.lag_seconds for call in calls), 99)
    if lag > LAG_SECONDS_MAX:
        problems.append(f"the generator lagged behind its schedule: p99 {lag * 1e3:.0f} ms")
    return problems
