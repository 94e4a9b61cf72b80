"""A load generator as a child process, which is always ended, and its CPU time."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Mapping
from pathlib import Path

GRACE_SECONDS = 30


async def run_generator(
    command: list[str],
    *,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> tuple[str, float]:
    """Its output and its CPU seconds; raises RuntimeError if it fails or does not end in time.

    The CPU time is that of all children reaped meanwhile: run nothing else beside it.
    """
    before = _children_cpu_seconds()
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=directory,
    )
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            raw, _ = await process.communicate()
    except TimeoutError as error:
        raise RuntimeError(f"{command[0]} did not end {GRACE_SECONDS} s after its time") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    output = raw.decode(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} failed with {process.returncode}:\n{output[:4000]}")
    return output, _children_cpu_seconds() - before


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
