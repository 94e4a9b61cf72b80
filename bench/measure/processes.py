"""CPU time and memory of each process, read from Linux's /proc."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
POSTGRES = "postgres"
"""The root whose processes are grouped by the database that they work for."""
POSTGRES_HELPERS = "postgres helpers"
POSTGRES_ENDED = "postgres ended backends"
_BACKEND = re.compile(r"^postgres: (?:\S+: )?\S+ (?P<database>\S+) (?:\[local\]|\S+\(\d+\))")


class Memory(msgspec.Struct, frozen=True):
    """Resident and proportional set size: PSS divides shared pages among the processes that share them."""

    rss_mib: float
    pss_mib: float


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat; times in clock ticks, `reaped` those of children that have ended."""

    pid: int
    parent: int
    started: int
    used: int
    reaped: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    processes: Mapping[int, Process]
    groups: Mapping[int, str]
    machine_busy_ticks: int
    machine_stolen_ticks: int


@dataclass(frozen=True, slots=True)
class Spending:
    """CPU seconds between two snapshots: of each group, of the whole machine, and taken by its host."""

    seconds_by_group: Mapping[str, float]
    machine_seconds: float
    stolen_seconds: float


def is_supported() -> bool:
    return (PROC / "self" / "stat").exists()


def take_snapshot(roots: Mapping[str, int]) -> Snapshot:
    """All processes, those below the roots (name → pid) by group; empty where there is no /proc."""
    if not is_supported():
        return Snapshot({}, {}, 0, 0)
    processes = {process.pid: process for process in _read_all()}
    busy, stolen = parse_machine_ticks((PROC / "stat").read_text())
    return Snapshot(processes, _groups(processes, roots), busy, stolen)


def spending(before: Snapshot, after: Snapshot) -> Spending:
    """The CPU time between two snapshots, also of processes that began or ended meanwhile."""
    ticks: dict[str, int] = defaultdict(int)
    for pid, group in after.groups.items():
        now, then = after.processes[pid], before.processes.get(pid)
        if then is None or then.started != now.started:
            ticks[group] += now.used + now.reaped
            continue
        ticks[group] += now.used - then.used
        # Children that ended: their whole time is now in `reaped`; what they had used before must come off.
        reaped = now.reaped - then.reaped
        if reaped:
            ticks[POSTGRES_ENDED if group == POSTGRES_HELPERS else group] += (
                reaped - _used_before_by_ended_children(pid, before, after)
            )
    return Spending(
        {group: count / TICKS_PER_SECOND for group, count in sorted(ticks.items()) if count > 0},
        (after.machine_busy_ticks - before.machine_busy_ticks) / TICKS_PER_SECOND,
        (after.machine_stolen_ticks - before.machine_stolen_ticks) / TICKS_PER_SECOND,
    )


def read_memory(roots: Mapping[str, int]) -> dict[str, Memory]:
    """Memory of each group; a process that we may not inspect counts with its RSS only."""
    if not is_supported():
        return {}
    processes = {process.pid: process for process in _read_all()}
    sums: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for pid, group in _groups(processes, roots).items():
        memory = _memory_of(pid)
        rss, pss = sums[group]
        sums[group] = (rss + memory.rss_mib, pss + memory.pss_mib)
    return {group: Memory(round(rss, 1), round(pss, 1)) for group, (rss, pss) in sorted(sums.items())}


def parse_stat(text: str) -> Process:
    """Reads /proc/PID/stat; the command in parentheses may hold spaces and parentheses itself."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Process(
        pid=int(head.split(" ", 1)[0]),
        parent=int(fields[1]),
        started=int(fields[19]),
        used=int(fields[11]) + int(fields[12]),
        reaped=int(fields[13]) + int(fields[14]),
    )


def parse_machine_ticks(text: str) -> tuple[int, int]:
    """Busy and stolen ticks of all cores, from /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (int(field) for field in text.split()[1:11])
    return user + nice + system + irq + softirq, steal


def postgres_group(title: str) -> str:
    """A backend's group is its database; the server's own helpers are one group."""
    backend = _BACKEND.match(title)
    return backend_group(backend["database"]) if backend else POSTGRES_HELPERS


def backend_group(database: str) -> str:
    return f"postgres {database}"


def _read_all() -> list[Process]:
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                found.append(parse_stat((entry / "stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    return found


def _groups(processes: Mapping[int, Process], roots: Mapping[str, int]) -> dict[int, str]:
    names = {pid: name for name, pid in roots.items()}
    groups: dict[int, str] = {}
    for pid in processes:
        root = _root_of(pid, processes, names)
        if root is None:
            continue
        groups[pid] = _title_group(pid) if names[root] == POSTGRES else names[root]
    return groups


def _root_of(pid: int, processes: Mapping[int, Process], names: Mapping[int, str]) -> int | None:
    while pid in processes:
        if pid in names:
            return pid
        pid = processes[pid].parent
    return None


def _title_group(pid: int) -> str:
    try:
        title = (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        title = ""
    return postgres_group(title)


def _used_before_by_ended_children(parent: int, before: Snapshot, after: Snapshot) -> int:
    return sum(
        process.used + process.reaped
        for pid, process in before.processes.items()
        if process.parent == parent
        and (pid not in after.processes or after.processes[pid].started != process.started)
    )


def _memory_of(pid: int) -> Memory:
    try:
        rollup = (PROC / str(pid) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return Memory(0.0, 0.0)
    except PermissionError:
        rss = int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        return Memory(rss, rss)
    return parse_smaps_rollup(rollup)


def parse_smaps_rollup(text: str) -> Memory:
    fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return Memory(*(int(fields[name].split()[0]) / 1024 for name in ("Rss", "Pss")))
