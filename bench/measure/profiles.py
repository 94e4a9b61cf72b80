"""Profiles: py-spy samples a process from outside while it is under load."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

SAMPLES_PER_SECOND = 100
GRACE_SECONDS = 30
TOP = 12
EVERYWHERE = 0.7
"""A frame in more samples than this share is a caller of everything, and tells nothing."""
SCAFFOLDING = ("python", "asyncio")
"""Packages that call everything: their own work counts, the work of their callees does not."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the samples in which the process was on a CPU or in a system call, largest first."""

    samples: int
    by_package: Mapping[str, float]
    by_function: Mapping[str, float]
    by_caller: Mapping[str, float]
    folded: str


@asynccontextmanager
async def record_profiles(processes: Mapping[str, int], *, seconds: int) -> AsyncIterator[dict[str, Profile]]:
    """Samples the Python processes while the block runs; the profiles are there when it has ended.

    Raises RuntimeError when py-spy is not installed or may not look into the processes.
    """
    profiles: dict[str, Profile] = {}
    with tempfile.TemporaryDirectory(prefix="homeroom-profile-") as directory:
        recordings = [
            asyncio.create_task(_record(name, pid, seconds, Path(directory), profiles))
            for name, pid in processes.items()
            if _is_python(pid)
        ]
        try:
            yield profiles
            await asyncio.gather(*recordings)
        finally:
            for recording in recordings:
                recording.cancel()
            await asyncio.gather(*recordings, return_exceptions=True)


def summarize(folded: str) -> Profile:
    """Reads collapsed stacks: `outer (file:line);inner (file:line) count` per line."""
    functions: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    callers: Counter[str] = Counter()
    total = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.rpartition(":")[0] + ")" for frame in stack.split(";") if ":" in frame]
        if not frames:
            continue
        total += int(count)
        functions[frames[-1]] += int(count)
        packages[_package(frames[-1])] += int(count)
        for frame in set(frames):
            callers[frame] += int(count)
    telling = Counter(
        {
            frame: count
            for frame, count in callers.items()
            if count <= EVERYWHERE * total and _package(frame) not in SCAFFOLDING
        }
    )
    return Profile(
        samples=total,
        by_package=_shares(packages, total),
        by_function=_shares(functions, total),
        by_caller=_shares(telling, total),
        folded=folded,
    )


async def _record(name: str, pid: int, seconds: int, directory: Path, profiles: dict[str, Profile]) -> None:
    output = directory / f"{name}.folded"
    process = await asyncio.create_subprocess_exec(
        _py_spy(), "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(SAMPLES_PER_SECOND),
        "--format", "raw", "--nonblocking", "--output", str(output),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        hint = "run as root, or allow it: sysctl kernel.yama.ptrace_scope=0"
        raise RuntimeError(f"py-spy cannot look into {name} ({hint}):\n{said.decode(errors='replace')}")
    profiles[name] = summarize(output.read_text())


def _py_spy() -> str:
    path = shutil.which(
        "py-spy", path=f"{Path(sys.executable).parent}:{Path(sys.prefix) / 'bin'}"
    ) or shutil.which("py-spy")
    if path is None:
        raise RuntimeError("py-spy is not installed: pip install py-spy")
    return path


def _is_python(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").resolve().name.startswith("python")
    except OSError:
        return False


def _package(frame: str) -> str:
    """`f (asyncpg/connection.py)` → asyncpg; a file without a folder is the standard library's."""
    path = frame.rpartition("(")[2]
    return path.split("/", 1)[0] if "/" in path else "python"


def _shares(counts: Counter[str], total: int) -> dict[str, float]:
    return {name: round(count / total, 4) for name, count in counts.most_common(TOP)}
