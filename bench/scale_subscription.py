"""How the cost of a hold grows from 10,000 to 10,000,000 of them: `python -m bench.scale_subscription`.

Builds each size with COPY in an embedded PostgreSQL, lets the real store place and commit holds of learners
picked at random in batches, reads entitlements, and prints times, CPU, WAL and the plans of every statement.
Linux only: it reads the CPU time of the backend from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import asyncpg
from rich.console import Console
from rich.table import Table

import chassis.migrations
from bench.scale.costs import BATCH, Bench, Measurement
from bench.scale.plans import WatchedDatabase, explain, scans_of_whole_tables
from bench.scale.population import HOLDS_PER_ACCOUNT, grow
from homeroom.embedded.postgres import SETTINGS, Cluster
from homeroom.embedded.provisioning import provision
from homeroom.secrets_file import SecretsFile
from subscription_service.__main__ import MIGRATIONS

GROWTH_MAXIMUM = 1.20
# Room for the larger sizes, as a server of that size would have; everything else as `make up` runs it.
LARGE = {**SETTINGS, "shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "60min"}

console = Console(width=150)


def print_measurements(measurements: Sequence[Measurement]) -> bool:
    """Print what was measured; returns whether the cost of a hold stayed within its bound."""
    table = Table(
        title="per item of a batch of 32: µs elapsed · µs CPU of the service · of the backend · WAL bytes"
    )
    for column in ("holds", "accounts", "MiB", "PlaceHold", "CommitHold", "GetEntitlements"):
        table.add_column(column, justify="right")
    for each in measurements:
        costs = (
            " · ".join(
                f"{figure:.0f}"
                for figure in (cost.wall_us, cost.service_cpu_us, cost.backend_cpu_us, cost.wal_bytes)
            )
            for cost in (each.place, each.commit, each.entitlements)
        )
        table.add_row(f"{each.holds:,}", f"{each.accounts:,}", f"{each.size_mib:,.0f}", *costs)
    console.print(table)
    first, last = measurements[0], measurements[-1]
    kept = True
    for name in ("place", "commit"):
        small, large = getattr(first, name), getattr(last, name)
        cpu = (large.service_cpu_us + large.backend_cpu_us) / (small.service_cpu_us + small.backend_cpu_us)
        wall = large.wall_us / small.wall_us
        kept = kept and wall <= GROWTH_MAXIMUM
        console.print(f"{name}: {wall:.2f} times the time and {cpu:.2f} times the CPU of the smallest size")
    return kept


async def run(sizes: Sequence[int], batches: int, repeats: int, seed: int, output: Path | None) -> int:
    folder = Path(tempfile.mkdtemp(prefix="homeroom-scale-"))
    secrets = SecretsFile(folder / "secrets.json")
    cluster = Cluster(
        folder / "postgres",
        password=secrets.get("postgres"),
        run=folder / "run",
        log=folder / "postgres.log",
        settings=LARGE,
    )
    try:
        await cluster.start()
        service = await provision(cluster, secrets, "subscription")
        await chassis.migrations.migrate(service.owner, MIGRATIONS)
        truth = await asyncpg.connect(service.superuser)
        database = cast("WatchedDatabase", await WatchedDatabase.connect(service.service, maximum=1))
        backend = await database.read(
            lambda connection: connection.fetchval("SELECT pg_backend_pid()"),
            deadline=time.monotonic() + 10.0,
        )
        database.statements.clear()
        bench = Bench(database, truth, backend, random.Random(seed))
        measurements = await measure_sizes(bench, sizes, batches, repeats)
        plans = await explain(database)
        await database.close()
        await truth.close()
    finally:
        await cluster.stop(immediately=True)
        shutil.rmtree(folder)
    return report(measurements, plans, output)


async def measure_sizes(bench: Bench, sizes: Sequence[int], batches: int, repeats: int) -> list[Measurement]:
    measurements: list[Measurement] = []
    accounts = 0
    for holds in sorted(sizes):
        began = time.monotonic()
        wanted = max(BATCH, holds // HOLDS_PER_ACCOUNT)
        await grow(bench.truth, accounts, wanted)
        accounts = wanted
        await bench.truth.execute("VACUUM (ANALYZE)")
        await bench.truth.execute("CHECKPOINT")
        console.print(f"{holds:,} holds are there after {time.monotonic() - began:.0f} s")
        measurements.append(await bench.measure(accounts, batches, repeats))
    return measurements


def report(measurements: Sequence[Measurement], plans: dict[str, list[str]], output: Path | None) -> int:
    for name, plan in plans.items():
        console.print(f"\n[bold]{name}", highlight=False)
        console.print("\n".join(f"    {line}" for line in plan), highlight=False, markup=False)
    console.print()
    kept = print_measurements(measurements)
    scans = scans_of_whole_tables(plans)
    for scan in scans:
        console.print(f"[red]reads a whole table: {scan}")
    if not kept:
        console.print(
            f"[red]a hold costs more than {GROWTH_MAXIMUM:.2f} times what it cost at the smallest size"
        )
    if output is not None:
        output.write_text(
            json.dumps([asdict(each) for each in measurements], indent=1) + "\n", encoding="utf-8"
        )
    return 0 if kept and not scans else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--holds", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--batches", type=int, default=100, help=f"batches of {BATCH} per round")
    parser.add_argument("--repeats", type=int, default=5, help="rounds per size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    chosen = parser.parse_args()
    return asyncio.run(run(chosen.holds, chosen.batches, chosen.repeats, chosen.seed, chosen.output))


if __name__ == "__main__":
    sys.exit(main())
