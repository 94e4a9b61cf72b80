"""The bench of scale: the same steps in a small store and in large ones."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.scale.measuring import (
    BETWEEN_CHECKPOINTS,
    YARDSTICK,
    Cost,
    Measure,
    Measurement,
    Subject,
    measure_size,
)
from bench.scale.plans import WatchedDatabase, explain, scans_of_whole_tables
from bench.scale.server import kept_store
from chassis.postgres import Connection

GROWTH_MAX = 1.20
# A growth below this is that of the clock, not of the store.
GROWTH_US_MIN = 5.0

Plans = Mapping[str, list[str]]


@dataclass(frozen=True)
class Order:
    """How to measure; `data` is the folder of the stores, None for a temporary one."""

    batches: int
    repeats: int
    seed: int
    data: Path | None


async def run_scale(
    subject: Subject, sizes: Sequence[int], order: Order, console: Console
) -> tuple[list[Measurement], Plans]:
    """Build a store of each size, the small ones first, and measure in it; the plans are of the last one."""
    measurements: list[Measurement] = []
    plans: Plans = {}
    for size in sorted(sizes):
        measured, plans = await _measure(subject, size, order, console)
        measurements += measured
        print_size(console, measured)
    return measurements, plans


async def _measure(
    subject: Subject, size: int, order: Order, console: Console
) -> tuple[list[Measurement], Plans]:
    learners = 0

    async def build(connection: Connection) -> None:
        nonlocal learners
        learners = await subject.build(connection, size, console.print)

    async with kept_store(
        subject.service, build, signature=secrets.token_hex(), data=order.data
    ) as addresses:
        truth = await asyncpg.connect(addresses.superuser)
        database = cast("WatchedDatabase", await WatchedDatabase.connect(addresses.service, maximum=1))
        try:
            size_mib = await truth.fetchval("SELECT pg_database_size(current_database())::float8 / 1048576")
            measure = Measure(database, subject.assemble(database, secrets.token_hex()), truth)
            await measure.begin()
            phases = await measure_size(
                subject,
                measure,
                random.Random(order.seed),
                learners=learners,
                batches=order.batches,
                repeats=order.repeats,
            )
            plans = await explain(database)
        finally:
            await database.close()
            await truth.close()
    return [
        Measurement(phase=phase, size=size, learners=learners, size_mib=size_mib, steps=steps)
        for phase, steps in phases.items()
    ], plans


def print_size(console: Console, measured: Sequence[Measurement]) -> None:
    """What each step costs in one store."""
    first = measured[0]
    table = Table(
        title=f"{first.size:,} rows, {first.learners:,} learners, {first.size_mib:,.0f} MiB. Per item: "
        "µs elapsed · µs CPU of the service · of the backend · bytes of WAL · pages found · pages read",
        title_justify="left",
    )
    table.add_column("step")
    for each in measured:
        table.add_column(each.phase, justify="right")
    for step in first.steps:
        table.add_row(step, *(_shown(each.steps[step]) if step in each.steps else "" for each in measured))
    console.print(table)


def _shown(cost: Cost) -> str:
    return (
        f"{cost.wall_us:,.0f} · {cost.service_cpu_us:,.0f} · {cost.backend_cpu_us:,.0f} · "
        f"{cost.wal_bytes:,.0f} · {cost.pages_hit:,.1f} · {cost.pages_read:,.2f}"
    )


def print_growth(console: Console, measurements: Sequence[Measurement]) -> list[str]:
    """How each step has grown from the smallest store to the largest; the steps that have grown too much.

    The CPU decides, and not the time, which others on the machine decide, too. They also make each
    instruction take longer, so the CPU is put in relation to that of the yardstick.
    """
    measured = [each for each in measurements if each.phase == BETWEEN_CHECKPOINTS]
    small, large = measured[0], measured[-1]
    table = Table(
        title=f"{BETWEEN_CHECKPOINTS}, from {small.size:,} to {large.size:,} rows", title_justify="left"
    )
    table.add_column("step")
    slower_service, slower_backend = _slower(small, large)
    for heading in ("CPU µs", "times", "by the yardstick", "elapsed", "WAL", "pages"):
        table.add_column(heading, justify="right")
    grown = []
    for step, before in small.steps.items():
        after = large.steps[step]
        cpu_us = after.service_cpu_us / slower_service + after.backend_cpu_us / slower_backend
        if cpu_us > GROWTH_MAX * before.cpu_us and cpu_us > before.cpu_us + GROWTH_US_MIN:
            grown.append(step)
        table.add_row(
            step,
            f"{before.cpu_us:,.0f} → {after.cpu_us:,.0f}",
            _times(before.cpu_us, after.cpu_us),
            _times(before.cpu_us, cpu_us),
            _times(before.wall_us, after.wall_us),
            _times(before.wal_bytes, after.wal_bytes),
            _times(before.pages_hit + before.pages_read, after.pages_hit + after.pages_read),
        )
    console.print(table)
    return grown


def _slower(small: Measurement, large: Measurement) -> tuple[float, float]:
    """How much more CPU of the service and of the backend the yardstick took in the large store."""
    before, after = small.steps[YARDSTICK], large.steps[YARDSTICK]
    return (
        after.service_cpu_us / before.service_cpu_us,
        after.backend_cpu_us / before.backend_cpu_us,
    )


def _times(before: float, after: float) -> str:
    return f"{after / before:.2f}" if before else "-"


def report(
    console: Console,
    subject: Subject,
    measurements: Sequence[Measurement],
    plans: Plans,
    *,
    output: Path | None,
) -> bool:
    """Print the plans and the growth; whether no step grows, and no statement reads a whole table."""
    for name, plan in plans.items():
        console.print(f"\n[bold]{name}", highlight=False)
        console.print("\n".join(f"    {line}" for line in plan), highlight=False, markup=False)
    console.print()
    grown = print_growth(console, measurements)
    scans = scans_of_whole_tables(dict(plans), subject.tables)
    for scan in scans:
        console.print(f"[red]reads a whole table: {scan}")
    for step in grown:
        console.print(f"[red]costs more than {GROWTH_MAX:.2f} times the CPU in the largest store: {step}")
    if output is not None:
        output.write_text(
            json.dumps([asdict(each) for each in measurements], indent=1) + "\n", encoding="utf-8"
        )
    return not grown and not scans
