"""How the cost of a hold grows from 10,000 to 10,000,000 of them: `python -m bench.scale_subscription`.

It builds each size with COPY in an embedded PostgreSQL, always for the same million learners. Then the
service's handlers place and commit holds of random learners, in batches, and read entitlements. It prints
times, CPU, WAL and the plan of each statement. It takes about six minutes, 6 GB of memory and 15 GB of
disk, and needs Linux: the CPU time of the backend comes from /proc. It exits with 1 if the time of a hold
grows by more than a fifth between checkpoints, or if a statement reads a whole table.
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
from typing import Any, cast

import asyncpg
from rich.console import Console
from rich.table import Table

import chassis.postgres.migrations
from bench.scale.costs import AFTER_A_CHECKPOINT, BATCH, BETWEEN_CHECKPOINTS, Bench, Measurement
from bench.scale.plans import WatchedDatabase, explain, scans_of_whole_tables
from bench.scale.subscription_population import add_accounts, add_holds, warm_up
from chassis.rpc.paging import PageTokens
from homeroom.embedded.postgres import SETTINGS, Cluster
from homeroom.embedded.provisioning import provision
from homeroom.secrets_file import SecretsFile
from subscription_service.__main__ import MIGRATIONS, handlers
from subscription_service.operations.license_feed import LicenseFeed

GROWTH_MAX = 1.20
# A server for the largest size: its data fits into memory, and checkpoints come only on request. All other
# settings are those of `make up`.
LARGE = {**SETTINGS, "shared_buffers": "6GB", "max_wal_size": "100GB", "checkpoint_timeout": "1d"}

FIGURES = ("wall_us", "service_cpu_us", "backend_cpu_us")

console = Console(width=170)


def print_measurements(measurements: Sequence[Measurement]) -> bool:
    """Print what was measured; returns whether the cost of a hold stayed within its bound."""
    title = "per item: µs elapsed · µs CPU of the service · µs CPU of the backend · bytes of WAL"
    table = Table(title=title)
    for column in ("holds", "accounts", "MiB", "checkpoints", "PlaceHold", "CommitHold", "GetEntitlements"):
        table.add_column(column, justify="right")
    for each in measurements:
        costs = (
            " · ".join(
                f"{figure:.0f}"
                for figure in (cost.wall_us, cost.service_cpu_us, cost.backend_cpu_us, cost.wal_bytes)
            )
            for cost in (each.place, each.commit, each.entitlements)
        )
        table.add_row(f"{each.holds:,}", f"{each.accounts:,}", f"{each.size_mib:,.0f}", each.phase, *costs)
    console.print(table)
    grown(measurements, AFTER_A_CHECKPOINT)
    return grown(measurements, BETWEEN_CHECKPOINTS) <= GROWTH_MAX


def grown(measurements: Sequence[Measurement], phase: str) -> float:
    """Print and return how much more a hold, placed and committed, costs at the largest size."""
    first, *_, last = [each for each in measurements if each.phase == phase] * 2
    small, large = (
        {name: getattr(each.place, name) + getattr(each.commit, name) for name in FIGURES}
        for each in (first, last)
    )
    cpu = (large["service_cpu_us"] + large["backend_cpu_us"]) / (
        small["service_cpu_us"] + small["backend_cpu_us"]
    )
    elapsed = float(large["wall_us"] / small["wall_us"])
    console.print(
        f"{phase}: a hold takes {elapsed:.2f} times the time and {cpu:.2f} times the CPU at the end"
    )
    return elapsed


async def run(chosen: argparse.Namespace) -> int:
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
        await chassis.postgres.migrations.migrate(service.owner, MIGRATIONS)
        truth = await asyncpg.connect(service.superuser)
        database = cast("WatchedDatabase", await WatchedDatabase.connect(service.service, maximum=1))
        backend = await database.read(
            lambda connection: connection.fetchval("SELECT pg_backend_pid()"),
            deadline=time.monotonic() + 10.0,
        )
        database.statements.clear()
        # Nobody watches licenses here, so the feed needs nothing to read them.
        feed = LicenseFeed(reader=cast("Any", None), poll_seconds=60.0)
        tokens = PageTokens(secret=secrets.get("service_token"))
        bench = Bench(handlers(database, feed, tokens=tokens), truth, backend, random.Random(chosen.seed))
        measurements = await measure_sizes(
            bench, chosen.accounts, chosen.holds, chosen.batches, chosen.repeats
        )
        plans = await explain(database)
        await database.close()
        await truth.close()
    finally:
        await cluster.stop(immediately=True)
        shutil.rmtree(folder)
    return report(measurements, plans, chosen.output)


async def measure_sizes(
    bench: Bench, accounts: int, sizes: Sequence[int], batches: int, repeats: int
) -> list[Measurement]:
    began = time.monotonic()
    await add_accounts(bench.truth, accounts)
    measurements: list[Measurement] = []
    there = 0
    for holds in sorted(sizes):
        await add_holds(bench.truth, range(there, holds), accounts)
        there = holds
        await bench.truth.execute("VACUUM (ANALYZE)")
        await warm_up(bench.truth)
        console.print(f"{holds:,} holds of {accounts:,} learners after {time.monotonic() - began:.0f} s")
        measurements.append(await bench.measure(accounts, batches=batches, repeats=repeats))
        await bench.truth.execute("CHECKPOINT")
        measurements.append(
            await bench.measure(accounts, batches=batches, repeats=repeats, phase=AFTER_A_CHECKPOINT)
        )
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
        console.print(f"[red]a hold costs more than {GROWTH_MAX:.2f} times what it cost at the smallest size")
    if output is not None:
        output.write_text(
            json.dumps([asdict(each) for each in measurements], indent=1) + "\n", encoding="utf-8"
        )
    return 0 if kept and not scans else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--holds", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--batches", type=int, default=100, help=f"batches of {BATCH} per round")
    parser.add_argument("--repeats", type=int, default=5, help="rounds per size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    chosen = parser.parse_args()
    return asyncio.run(run(chosen))


if __name__ == "__main__":
    sys.exit(main())
