"""The bench of scale: the same steps in a small store and in large ones, in turns."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.scale.measuring import Cost, Measure, Subject
from bench.scale.pairs import (
    BETWEEN_CHECKPOINTS,
    Comparison,
    Ratios,
    Store,
    compare,
    measure_pairs,
    median_of,
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
    """How to measure; `data` is the folder of the stores, None for temporary ones."""

    sizes: Sequence[int]
    batches: int
    pairs: int
    seed: int
    data: Path | None


async def run_scale(
    make_subject: Callable[[], Subject], order: Order, console: Console
) -> tuple[list[Store], Plans]:
    """Build a store of each size, then measure in all of them in turns; the plans are of the largest one."""
    stores: list[Store] = []
    databases: list[WatchedDatabase] = []
    async with AsyncExitStack() as stack:
        for size in sorted(order.sizes):
            store, database = await _open(stack, make_subject(), size, order, console)
            stores.append(store)
            databases.append(database)
        await measure_pairs(stores, batches=order.batches, pairs=order.pairs)
        plans = await explain(databases[-1])
    return stores, plans


async def _open(
    stack: AsyncExitStack, subject: Subject, size: int, order: Order, console: Console
) -> tuple[Store, WatchedDatabase]:
    learners = 0

    async def build(connection: Connection) -> None:
        nonlocal learners
        learners = await subject.build(connection, size, console.print)

    data = None if order.data is None else order.data / f"{subject.service}-{size}"
    kept = kept_store(subject.service, build, signature=secrets.token_hex(), data=data)
    addresses = await stack.enter_async_context(kept)
    truth = await asyncpg.connect(addresses.superuser)
    stack.push_async_callback(truth.close)
    database = cast("WatchedDatabase", await WatchedDatabase.connect(addresses.service, maximum=1))
    stack.push_async_callback(database.close)
    measure = Measure(database, subject.assemble(database, secrets.token_hex()), truth)
    await measure.begin()
    return (
        Store(
            size=size,
            learners=learners,
            size_mib=await truth.fetchval("SELECT pg_database_size(current_database())::float8 / 1048576"),
            subject=subject,
            measure=measure,
            chance=random.Random(order.seed),
        ),
        database,
    )


def print_store(console: Console, store: Store) -> None:
    """What each step costs in one store: the medians of the rounds of each phase."""
    table = Table(
        title=f"{store.size:,} rows, {store.learners:,} learners, {store.size_mib:,.0f} MiB. Per item: "
        "µs elapsed · µs CPU of the service · of the backend · bytes of WAL · pages found · pages read",
        title_justify="left",
    )
    table.add_column("step")
    for phase in store.rounds:
        table.add_column(phase, justify="right")
    for step in store.rounds[BETWEEN_CHECKPOINTS][0]:
        phases = store.rounds.values()
        table.add_row(step, *(_shown(median_of([each[step] for each in rounds])) for rounds in phases))
    console.print(table)


def _shown(cost: Cost) -> str:
    return (
        f"{cost.wall_us:,.0f} · {cost.service_cpu_us:,.0f} · {cost.backend_cpu_us:,.0f} · "
        f"{cost.wal_bytes:,.0f} · {cost.pages_hit:,.1f} · {cost.pages_read:,.2f}"
    )


def print_growth(console: Console, small: Store, large: Store) -> list[str]:
    """How the steps have grown from one store to the other; those that have between checkpoints.

    The CPU decides, and not the time, which others on the machine decide, too.
    """
    grown: list[str] = []
    for phase in small.rounds:
        compared = compare(small.rounds[phase], large.rounds[phase])
        _print_comparisons(console, f"{phase}, from {small.size:,} to {large.size:,} rows", compared)
        if phase == BETWEEN_CHECKPOINTS:
            grown = [each.step for each in compared if has_grown(each)]
    return grown


def has_grown(step: Comparison) -> bool:
    """Whether a step costs too much more CPU in the larger store."""
    by_us = step.large.cpu_us - step.small.cpu_us
    return step.cpu is not None and step.cpu.median > GROWTH_MAX and by_us > GROWTH_US_MIN


def _print_comparisons(console: Console, title: str, compared: Sequence[Comparison]) -> None:
    pairs = "median of the pairs (least to greatest)"
    table = Table(title=f"{title}; {pairs}", title_justify="left")
    table.add_column("step")
    for heading in ("CPU µs", "CPU", "of the service", "of the backend", "elapsed", "WAL", "pages"):
        table.add_column(heading, justify="right")
    for each in compared:
        small, large = each.small, each.large
        table.add_row(
            each.step,
            f"{small.cpu_us:,.0f} → {large.cpu_us:,.0f}",
            _related(each.cpu),
            _median(each.service),
            _median(each.backend),
            _related(each.elapsed),
            f"{small.wal_bytes:,.0f} → {large.wal_bytes:,.0f}",
            f"{small.pages_hit + small.pages_read:,.1f} → {large.pages_hit + large.pages_read:,.1f}",
        )
    console.print(table)


def _related(ratios: Ratios | None) -> str:
    return "-" if ratios is None else f"{ratios.median:.2f} ({ratios.least:.2f} to {ratios.greatest:.2f})"


def _median(ratios: Ratios | None) -> str:
    return "-" if ratios is None else f"{ratios.median:.2f}"


def report(console: Console, stores: Sequence[Store], plans: Plans, *, output: Path | None) -> bool:
    """Print plans, costs and growth; whether no step grows, and no statement reads a whole table."""
    for name, plan in plans.items():
        console.print(f"\n[bold]{name}", highlight=False)
        console.print("\n".join(f"    {line}" for line in plan), highlight=False, markup=False)
    console.print()
    for store in stores:
        print_store(console, store)
    smallest = stores[0]
    grown: list[str] = []
    for store in stores[1:]:
        grown = print_growth(console, smallest, store)
    scans = scans_of_whole_tables(dict(plans), stores[-1].subject.tables)
    for scan in scans:
        console.print(f"[red]reads a whole table: {scan}")
    for step in grown:
        console.print(f"[red]costs more than {GROWTH_MAX:.2f} times the CPU in the largest store: {step}")
    if output is not None:
        output.write_text(
            json.dumps([_recorded(store) for store in stores], indent=1) + "\n", encoding="utf-8"
        )
    return not grown and not scans


def _recorded(store: Store) -> dict[str, object]:
    """Every figure of every round, as JSON has it."""
    rounds = {
        phase: [{step: asdict(cost) for step, cost in each.items()} for each in every]
        for phase, every in store.rounds.items()
    }
    return {
        "size": store.size,
        "learners": store.learners,
        "size_mib": store.size_mib,
        "rounds": rounds,
    }
