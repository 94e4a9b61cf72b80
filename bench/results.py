"""The figures of a bench: runs, their medians, ratios to the peers, and the goals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

import msgspec

from bench.machine import Machine
from bench.measure.processes import Memory

SUBJECT = "gateway"
GOAL_CONNECTIONS = 64
RATIO_GOALS = {"fastapi": 8.0, "aiohttp": 2.3, "aiohttp-steps": 2.3, "pgbench": 0.5}
P50_GOAL_MS = 5.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One load on one system. A run with problems proves nothing: no median contains it."""

    system: str
    connections: int
    repeat: int
    seconds: float
    rate: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    sent: int
    succeeded: int
    counts: Mapping[str, int]
    cpu_us_per_start: Mapping[str, float]
    generator_cpu_us_per_start: float
    # Cores that were busy meanwhile: with the idle systems, with other programs, or taken by the host.
    bystanders_cores: float
    elsewhere_cores: float
    stolen_cores: float
    problems: Sequence[str]


class Medians(msgspec.Struct, frozen=True, kw_only=True):
    """A system at one number of connections, over its good runs."""

    system: str
    connections: int
    runs: int
    rate: float
    rate_min: float
    rate_max: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_start: Mapping[str, float]
    generator_cpu_us_per_start: float

    @property
    def cpu_us(self) -> float:
        return sum(self.cpu_us_per_start.values())


class Ratio(msgspec.Struct, frozen=True):
    """Our rate, divided by that of a peer."""

    peer: str
    connections: int
    ratio: float


class Goal(msgspec.Struct, frozen=True):
    what: str
    wanted: str
    measured: float
    reached: bool


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    connections: Sequence[int]
    seconds: int
    repeat: int
    requests: int


class Results(msgspec.Struct, frozen=True, kw_only=True):
    taken_at: dt.datetime
    machine: Machine
    settings: Settings
    titles: Mapping[str, str]
    medians: Sequence[Medians]
    ratios: Sequence[Ratio]
    goals: Sequence[Goal]
    memory: Mapping[str, Memory]
    runs: Sequence[Run]

    @property
    def invalid(self) -> list[Run]:
        return [run for run in self.runs if run.problems]


def medians_of(runs: Iterable[Run]) -> list[Medians]:
    """The medians of each system at each number of connections, in the order of their first good runs."""
    grouped: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        if not run.problems:
            grouped.setdefault((run.system, run.connections), []).append(run)
    return [_medians(system, connections, group) for (system, connections), group in grouped.items()]


def ratios_of(medians: Sequence[Medians]) -> list[Ratio]:
    """Ours against every peer that was measured at the same number of connections."""
    ours = {point.connections: point.rate for point in medians if point.system == SUBJECT}
    return [
        Ratio(point.system, point.connections, ours[point.connections] / point.rate)
        for point in medians
        if point.system != SUBJECT and point.connections in ours
    ]


def goals_of(medians: Sequence[Medians], ratios: Sequence[Ratio]) -> list[Goal]:
    """The goals that these figures decide."""
    goals = [
        Goal(
            f"starts at {GOAL_CONNECTIONS} connections against {ratio.peer}",
            f"at least {RATIO_GOALS[ratio.peer]} times",
            ratio.ratio,
            ratio.ratio >= RATIO_GOALS[ratio.peer],
        )
        for ratio in ratios
        if ratio.connections == GOAL_CONNECTIONS
    ]
    goals += [
        Goal(
            "p50 at one connection, in ms",
            f"at most {P50_GOAL_MS}",
            point.p50_ms,
            point.p50_ms <= P50_GOAL_MS,
        )
        for point in medians
        if point.system == SUBJECT and point.connections == 1
    ]
    return goals


class Dated(Protocol):
    """Results that know when and where they were taken."""

    @property
    def taken_at(self) -> dt.datetime: ...

    @property
    def machine(self) -> Machine: ...


def store(results: Dated, folder: Path, *, kind: str = "") -> Path:
    """Writes the results under a free name: date, machine, kind, and a number if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{results.taken_at:%Y-%m-%d}-{results.machine.slug}{kind and f'-{kind}'}"
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        path = folder / f"{stem}{suffix}.json"
        try:
            with path.open("xb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
        except FileExistsError:
            continue
        return path
    raise RuntimeError(f"{folder} holds a thousand results of one day")


def _medians(system: str, connections: int, runs: Sequence[Run]) -> Medians:
    groups = sorted({group for run in runs for group in run.cpu_us_per_start})
    rates = [run.rate for run in runs]
    return Medians(
        system=system,
        connections=connections,
        runs=len(runs),
        rate=median(rates),
        rate_min=min(rates),
        rate_max=max(rates),
        p50_ms=median(run.p50_ms for run in runs),
        p99_ms=median(run.p99_ms for run in runs),
        cpu_us_per_start={
            group: median(run.cpu_us_per_start.get(group, 0.0) for run in runs) for group in groups
        },
        generator_cpu_us_per_start=median(run.generator_cpu_us_per_start for run in runs),
    )
