"""One load on one system: its tables are emptied before, it is measured, and its rows are counted after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from bench.load.outcome import LoadOutcome
from bench.load.requests import RequestFile
from bench.measure.processes import (
    POSTGRES,
    POSTGRES_ENDED,
    POSTGRES_HELPERS,
    Spending,
    backend_group,
    spending,
    take_snapshot,
)
from bench.results import Run
from bench.systems import tables
from bench.systems.system import System

REAP_SECONDS = 0.1  # PostgreSQL gets the CPU time of an ended backend a moment after its end
SETTLE_SECONDS_MAX = 10.0
SETTLE_POLL_SECONDS = 0.1


class Meter:
    """Measures runs of systems that share one machine and one PostgreSQL."""

    def __init__(
        self,
        *,
        systems: Sequence[System],
        requests: Mapping[str, RequestFile],
        postmaster: int,
        admin_dsn: str,
    ) -> None:
        """`requests` are those of each system, by its name."""
        self._systems = systems
        self._requests = dict(requests)
        self._postmaster = postmaster
        self._admin_dsn = admin_dsn

    def roots(self) -> dict[str, int]:
        """The top of every tree of processes that belongs to the bench."""
        roots = {POSTGRES: self._postmaster}
        for system in self._systems:
            roots |= system.processes()
        return roots

    async def load(self, system: System, *, connections: int, seconds: int) -> LoadOutcome:
        """Load a system whose tables are empty, with other learners than in its last load.

        A load that fails is an outcome too: the runs of the other systems are still useful.
        """
        requests = self._requests[system.name]
        try:
            outcome = await system.load(requests, connections=connections, seconds=seconds)
        except (RuntimeError, ValueError) as error:
            return LoadOutcome.of_failure(str(error), seconds=seconds)
        self._requests[system.name] = requests.after(outcome.sent)
        return outcome

    async def run(self, system: System, *, connections: int, seconds: int, repeat: int) -> Run:
        """One run; its problems say what is wrong with it."""
        await system.reset()
        await tables.checkpoint(self._admin_dsn)
        roots = self.roots()
        before, own_before = take_snapshot(roots), time.process_time()
        started = time.monotonic()
        outcome = await self.load(system, connections=connections, seconds=seconds)
        elapsed = time.monotonic() - started
        await asyncio.sleep(REAP_SECONDS)
        spent, own = spending(before, take_snapshot(roots)), time.process_time() - own_before
        counts = await _settled_counts(system)
        problems = [*outcome.problems, *count_problems(counts, outcome)]
        await system.reset()
        mine, others = split_by_owner(spent, own_groups(system))
        accounted = sum(mine.values()) + others + outcome.generator_cpu_seconds + own
        starts = max(1, outcome.succeeded)
        return Run(
            system=system.name,
            connections=connections,
            repeat=repeat,
            seconds=outcome.seconds,
            rate=outcome.rate,
            p50_ms=outcome.p50_ms,
            p90_ms=outcome.p90_ms,
            p99_ms=outcome.p99_ms,
            max_ms=outcome.max_ms,
            sent=outcome.sent,
            succeeded=outcome.succeeded,
            counts=counts,
            cpu_us_per_start={group: round(used * 1e6 / starts, 1) for group, used in mine.items()},
            generator_cpu_us_per_start=round(outcome.generator_cpu_seconds * 1e6 / starts, 1),
            bystanders_cores=round((others + own) / elapsed, 3),
            elsewhere_cores=round(max(0.0, spent.machine_seconds - accounted) / elapsed, 3),
            stolen_cores=round(spent.stolen_seconds / elapsed, 3),
            problems=problems,
        )


def own_groups(system: System) -> set[str]:
    """The groups whose CPU time is the system's: its processes, its backends, and PostgreSQL's helpers."""
    return {
        *system.processes(),
        *(backend_group(database) for database in system.databases),
        POSTGRES_HELPERS,
        POSTGRES_ENDED,
    }


def split_by_owner(spent: Spending, own: set[str]) -> tuple[Mapping[str, float], float]:
    """The system's own CPU seconds by group, and the sum of all others'."""
    mine = {group: used for group, used in spent.seconds_by_group.items() if group in own}
    return mine, sum(spent.seconds_by_group.values()) - sum(mine.values())


def count_problems(counts: Mapping[str, int], outcome: LoadOutcome) -> list[str]:
    """The contradictions between rows and answers: a success without a row, a row without a request.

    A request that was under way when the load ended may have made a row and not be counted as answered.
    """
    problems = []
    for name, count in counts.items():
        if count < outcome.succeeded:
            problems.append(f"{outcome.succeeded - count} of {outcome.succeeded} successes without {name}")
        if count > outcome.sent:
            problems.append(f"{count} {name} from {outcome.sent} requests")
    if len(set(counts.values())) > 1:
        problems.append(
            "the tables disagree: " + ", ".join(f"{count} {name}" for name, count in counts.items())
        )
    return problems


async def _settled_counts(system: System) -> Mapping[str, int]:
    """The counts when they have stopped changing: requests under way at the end may still commit."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    before: Mapping[str, int] = {}
    while True:
        counts = await system.counts()
        if (counts == before and len(set(counts.values())) <= 1) or time.monotonic() > deadline:
            return counts
        before = counts
        await asyncio.sleep(SETTLE_POLL_SECONDS)
