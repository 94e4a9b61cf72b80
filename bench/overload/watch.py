"""Watches the processes of a stack during a load: the memory of the gateway, and the CPU of each."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.measure.processes import POSTGRES, Snapshot, spending, take_snapshot
from homeroom.services import GATEWAY, SERVICES
from homeroom.supervisor import Stack

SAMPLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one time of `time.monotonic`."""

    at: float
    gateway_mib: float
    snapshot: Snapshot


class Watch:
    """Takes samples until it is left.

    Args:
        stack: its processes; one that is started in the meantime is not watched.
    """

    def __init__(self, stack: Stack) -> None:
        self.samples: list[Sample] = []
        names = [*(service.package for service in SERVICES), POSTGRES]
        self._roots = {name: stack.pid(name) or 0 for name in names}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def most_mib(self, begin: float, end: float) -> float:
        """The largest memory of the gateway in this time; 0 without a sample."""
        return max((each.gateway_mib for each in self.samples if begin <= each.at < end), default=0.0)

    def cores(self, begin: float, end: float) -> Mapping[str, float]:
        """The cores that each process used in this time, and the whole `machine`; empty without samples."""
        within = [each for each in self.samples if begin <= each.at < end]
        if len(within) < 2:
            return {}
        first, last = within[0], within[-1]
        spent = spending(first.snapshot, last.snapshot)
        seconds = {**spent.seconds_by_group, "machine": spent.machine_seconds}
        return {name: each / (last.at - first.at) for name, each in seconds.items()}

    async def _watch(self) -> None:
        while True:
            self.samples.append(
                Sample(time.monotonic(), memory_mib(self._roots[GATEWAY.package]), take_snapshot(self._roots))
            )
            await asyncio.sleep(SAMPLE_SECONDS)


def memory_mib(pid: int) -> float:
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
