"""`python -m bench.pool`: the CPU that a checkout of a connection costs, our pool against asyncpg's own.

Each pair measures one after the other on the same server, in changing order. CPU time of this process, not
elapsed time, because the machine may be shared.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from chassis.postgres.pool import Pool
from homeroom.embedded.postgres import SETTINGS, Cluster
from homeroom.secrets_file import SecretsFile

CONNECTIONS = 8
CHECKOUTS = 4000
PAIRS = 15

# Checks a connection out, does the work, and gives it back.
Checkout = Callable[[], Awaitable[None]]
Work = Callable[[Any], Awaitable[object]]


def main() -> None:
    # uvloop, on which the processes run, cannot start a process as another user; asyncio's own loop can.
    with asyncio.Runner() as runner, running_postgres(runner) as dsn:
        uvloop.run(measure(dsn))


async def measure(dsn: str) -> None:
    ours = Pool(lambda: asyncpg.connect(dsn), maximum=CONNECTIONS, waiting_max=100_000)
    await ours.fill(CONNECTIONS)
    theirs = await asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, reset=do_nothing)
    resetting = await asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS)
    print(f"CPU per checkout in µs, median of {PAIRS} pairs (least, most); {CONNECTIONS} connections\n")
    print(f"{'':44}{'ours':>22}{'asyncpg, no reset':>22}{'asyncpg':>22}")
    for title, work, callers in (
        ("checkout alone", do_nothing, 1),
        ("checkout alone, 64 callers", do_nothing, 64),
        ("checkout and SELECT 1", select_one, 1),
        ("checkout and SELECT 1, 64 callers", select_one, 64),
    ):
        ways = [through_ours(ours, work), through_theirs(theirs, work), through_theirs(resetting, work)]
        costs: list[list[float]] = [[] for _ in ways]
        for pair in range(PAIRS):
            order = range(len(ways)) if pair % 2 else range(len(ways) - 1, -1, -1)
            for way in order:
                costs[way].append(await cpu_us(ways[way], callers))
        print(f"{title:44}" + "".join(f"{shown(each):>22}" for each in costs))
    await ours.close()
    await theirs.close()
    await resetting.close()


def through_ours(pool: Pool, work: Work) -> Checkout:
    async def checkout() -> None:
        connection = pool.take_idle() or await pool.take()  # as `Database._take` does
        await work(connection)
        pool.give_back(connection)

    return checkout


def through_theirs(pool: asyncpg.Pool[asyncpg.Record], work: Work) -> Checkout:
    async def checkout() -> None:
        async with pool.acquire() as connection:
            await work(connection)

    return checkout


async def do_nothing(_: object) -> None:
    """The work of a checkout that is measured alone; also a reset that resets nothing."""


async def select_one(connection: Any) -> None:
    await connection.fetchval("SELECT 1")


async def cpu_us(checkout: Checkout, callers: int) -> float:
    """The CPU of this process for one checkout."""

    async def caller() -> None:
        for _ in range(CHECKOUTS // callers):
            await checkout()

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.process_time() - began) / (CHECKOUTS // callers * callers) * 1e6


def shown(costs: list[float]) -> str:
    return f"{statistics.median(costs):.1f} ({min(costs):.1f}, {max(costs):.1f})"


@contextmanager
def running_postgres(runner: asyncio.Runner) -> Iterator[str]:
    """The address of a PostgreSQL that exists for this measurement."""
    folder = Path(tempfile.mkdtemp(prefix="homeroom-bench-"))
    cluster = Cluster(
        folder / "postgres",
        password=SecretsFile(folder / "secrets.json").get("postgres"),
        run=folder / "run",
        log=folder / "postgres.log",
        settings={**SETTINGS, "fsync": "off"},
    )
    try:
        runner.run(cluster.start())
        yield cluster.dsn("postgres")
    finally:
        runner.run(cluster.stop(immediately=True))
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
