"""wrk: where it is, how it is run, and how its report is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from bench.load.generator import run_generator
from bench.load.outcome import LoadOutcome
from bench.load.requests import RequestFile

SCRIPT = Path(__file__).with_name("starts.lua")
THREADS_MAX = 2
TIMEOUT_SECONDS = 10

HOW_TO_GET_IT = (
    "wrk is not on the path. Debian, Ubuntu: apt-get install wrk; macOS: brew install wrk; "
    "elsewhere: https://github.com/wg/wrk"
)


class Summary(msgspec.Struct, frozen=True):
    """The line that starts.lua prints at the end of a run; times in microseconds."""

    duration_us: int
    answered: int
    sent: int
    exhausted: int
    refused: int
    connect_errors: int
    read_errors: int
    write_errors: int
    timeouts: int
    p50_us: int
    p90_us: int
    p99_us: int
    max_us: int

    @property
    def problems(self) -> list[str]:
        """The reasons why this run proves nothing; none for a good one."""
        counted = {
            "answers of 400 and above": self.refused,
            "connections refused": self.connect_errors,
            "reads broken": self.read_errors,
            "writes broken": self.write_errors,
            f"answers later than {TIMEOUT_SECONDS} s": self.timeouts,
        }
        problems = [f"{count} {what}" for what, count in counted.items() if count]
        if self.exhausted:
            problems.append("the request file ran out: use more --requests")
        return problems


def require_wrk() -> str:
    """The path of wrk; raises RuntimeError that says how to get it."""
    path = shutil.which("wrk")
    if path is None:
        raise RuntimeError(HOW_TO_GET_IT)
    return path


def parse_summary(output: str) -> Summary:
    """Finds the line of starts.lua in wrk's output; raises ValueError if there is none."""
    for line in output.splitlines():
        if line.startswith("{"):
            return msgspec.json.decode(line, type=Summary)
    raise ValueError(f"wrk said nothing that can be read:\n{output}")


def wrk_command(url: str, requests: RequestFile, *, connections: int, seconds: int) -> list[str]:
    """Each thread gets its own part of the file, so that no request is played twice."""
    threads = min(connections, THREADS_MAX)
    return [
        require_wrk(), "--latency", f"--threads={threads}", f"--connections={connections}",
        f"--duration={seconds}s", f"--timeout={TIMEOUT_SECONDS}s", f"--script={SCRIPT}", url,
        "--", str(requests.path), str(requests.record_bytes), str(requests.count), str(requests.first),
        str(requests.count // threads),
    ]  # fmt: skip


async def run_wrk(url: str, requests: RequestFile, *, connections: int, seconds: int) -> LoadOutcome:
    """Plays the file against the URL; raises RuntimeError if wrk fails."""
    command = wrk_command(url, requests, connections=connections, seconds=seconds)
    output, cpu_seconds = await run_generator(command, seconds=seconds)
    summary = parse_summary(output)
    return LoadOutcome(
        seconds=summary.duration_us / 1e6,
        sent=summary.sent,
        succeeded=summary.answered - summary.refused,
        p50_ms=summary.p50_us / 1e3,
        p90_ms=summary.p90_us / 1e3,
        p99_ms=summary.p99_us / 1e3,
        max_ms=summary.max_us / 1e3,
        generator_cpu_seconds=cpu_seconds,
        problems=summary.problems,
    )
