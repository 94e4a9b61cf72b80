"""pgbench: only the writes of a start, without a service."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from bench.load.generator import run_generator
from bench.load.outcome import LoadOutcome
from homeroom.embedded.postgres import find_binaries

SCRIPT = Path(__file__).parents[1] / "peers" / "pgbench" / "start.sql"
THREADS_MAX = 2
RESPONSE = (
    '{"sessionId":"088a2814-5272-461d-b866-c43b9f7c3d59","userId":"learner-0000000","testId":"bench-01",'
    '"title":"Bench 01","kind":"PRACTICE","difficulty":"medium","state":"ACTIVE","resumed":false,'
    '"startedAt":"2026-01-01T12:00:00.000000Z","attempt":1,"questions":[],"answered":0,"total":0,'
    '"engagedSeconds":0,"metadata":{},"version":1}'
)
"""What the peers store with a key."""

_PROCESSED = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)
_RATE = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)


async def run_pgbench(dsn: str, *, connections: int, seconds: int) -> LoadOutcome:
    """Runs the transaction on so many clients; raises RuntimeError if pgbench fails."""
    with tempfile.TemporaryDirectory(prefix="homeroom-pgbench-") as directory:
        command = [
            str(find_binaries() / "pgbench"), "--no-vacuum", "--protocol=prepared", "--define=seq=0",
            f"--define=response={RESPONSE}", f"--client={connections}",
            f"--jobs={min(connections, THREADS_MAX)}", f"--time={seconds}", f"--file={SCRIPT}",
            "--log", "--log-prefix=transactions", dsn,
        ]  # fmt: skip
        output, cpu_seconds = await run_generator(
            command, seconds=seconds, environment=dict(os.environ), directory=Path(directory)
        )
        latencies = sorted(
            latency
            for log in Path(directory).glob("transactions.*")
            for latency in parse_latencies(log.read_text())
        )
    return parse_outcome(output, latencies, generator_cpu_seconds=cpu_seconds)


def parse_latencies(log: str) -> list[float]:
    """Milliseconds of each transaction in a log of `pgbench --log`: its third column, in microseconds."""
    return [int(line.split(" ", 3)[2]) / 1e3 for line in log.splitlines()]


def parse_outcome(output: str, latencies_ms: list[float], *, generator_cpu_seconds: float) -> LoadOutcome:
    """Reads pgbench's report; raises ValueError if it has no rate. The latencies must be sorted."""
    processed, failed, rate = (pattern.search(output) for pattern in (_PROCESSED, _FAILED, _RATE))
    if processed is None or rate is None or not latencies_ms:
        raise ValueError(f"pgbench said nothing that can be read:\n{output}")
    failures = int(failed.group(1)) if failed else 0
    count = int(processed.group(1))
    return LoadOutcome(
        seconds=count / float(rate.group(1)),
        sent=count + failures,
        succeeded=count,
        p50_ms=percentile(latencies_ms, 50),
        p90_ms=percentile(latencies_ms, 90),
        p99_ms=percentile(latencies_ms, 99),
        max_ms=latencies_ms[-1],
        generator_cpu_seconds=generator_cpu_seconds,
        problems=[f"{failures} failed transactions"] if failures else [],
    )


def percentile(ordered: list[float], percent: int) -> float:
    """The smallest value that so many percent of the values do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
