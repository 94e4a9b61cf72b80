"""What placing, committing and reading cost, item by item, on the real stores."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.scale.population import METHOD, learner
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from subscription_service.domain.holds import Hold, Placement
from subscription_service.store.entitlements import EntitlementStore
from subscription_service.store.holds import HoldReference, HoldStore

BATCH = 32
BETWEEN_CHECKPOINTS = "between checkpoints"
AFTER_A_CHECKPOINT = "right after one"


@dataclass(frozen=True)
class Cost:
    """What one item of a batch costs, in microseconds and bytes."""

    wall_us: float
    service_cpu_us: float
    backend_cpu_us: float
    wal_bytes: float


@dataclass(frozen=True)
class Measurement:
    """`phase` says when: between checkpoints, or right after one, when PostgreSQL logs whole pages."""

    phase: str
    holds: int
    accounts: int
    size_mib: float
    place: Cost
    commit: Cost
    entitlements: Cost


class Bench:
    """The real stores over one connection, whose backend's CPU can be told apart."""

    def __init__(self, database: Database, truth: Connection, backend: int, choices: random.Random) -> None:
        self.truth = truth
        self.backend = backend
        self.choices = choices
        self.holds = HoldStore(database=database)
        self.entitlements = EntitlementStore(database=database)

    async def measure(
        self, accounts: int, *, batches: int, repeats: int, phase: str = BETWEEN_CHECKPOINTS
    ) -> Measurement:
        """The best of several rounds, after one that nobody counts."""
        rounds = [await self._round(accounts, batches) for _ in range(repeats + 1)][1:]
        places, commits, reads = zip(*rounds, strict=True)
        size = await self.truth.fetchval("SELECT pg_database_size(current_database())")
        return Measurement(
            phase=phase,
            holds=await self.truth.fetchval("SELECT count(*) FROM holds"),
            accounts=accounts,
            size_mib=size / 2**20,
            place=least_of(places),
            commit=least_of(commits),
            entitlements=least_of(reads),
        )

    async def _round(self, accounts: int, batches: int) -> tuple[Cost, Cost, Cost]:
        placements = [
            [placement_of(number) for number in self.choices.sample(range(accounts), BATCH)]
            for _ in range(batches)
        ]

        async def place(batch: Sequence[Placement]) -> None:
            for outcome in await self.holds.place_holds(batch, wait=False, deadline=time.monotonic() + 10.0):
                assert isinstance(outcome, Hold), outcome

        async def commit(batch: Sequence[Placement]) -> None:
            references = [HoldReference(placement.user_id, placement.hold_id) for placement in batch]
            for outcome in await self.holds.commit_holds(
                references, wait=True, deadline=time.monotonic() + 10.0
            ):
                assert not isinstance(outcome, ServiceError), outcome

        async def read(batch: Sequence[Placement]) -> None:
            user_ids = [placement.user_id for placement in batch]
            found = await self.entitlements.read_standings(user_ids, deadline=time.monotonic() + 10.0)
            assert len(found) == len(batch)

        return (
            await self._cost(place, placements),
            await self._cost(commit, placements),
            await self._cost(read, placements),
        )

    async def _cost(
        self, act: Callable[[Sequence[Placement]], Awaitable[None]], batches: Sequence[Sequence[Placement]]
    ) -> Cost:
        wal = await self.truth.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        wall, service, backend = time.perf_counter(), time.process_time(), cpu_seconds(self.backend)
        for batch in batches:
            await act(batch)
        items = sum(len(batch) for batch in batches)
        micros = 1e6 / items
        return Cost(
            wall_us=(time.perf_counter() - wall) * micros,
            service_cpu_us=(time.process_time() - service) * micros,
            backend_cpu_us=(cpu_seconds(self.backend) - backend) * micros,
            wal_bytes=float(
                await self.truth.fetchval("SELECT pg_current_wal_insert_lsn() - $1::text::pg_lsn", wal)
            )
            / items,
        )


def placement_of(number: int) -> Placement:
    hold_id = uuid.uuid4()
    return Placement(learner(number), hold_id, 1, 0, f"test-{hold_id}#1", METHOD, f"key-{hold_id}")


def least_of(costs: Sequence[Cost]) -> Cost:
    """Each figure of the round in which it was least: what others on the machine do only adds to them."""
    columns = [asdict(cost) for cost in costs]
    return Cost(**{name: min(column[name] for column in columns) for name in columns[0]})


def cpu_seconds(pid: int) -> float:
    """Time on a CPU (the first figure of /proc/<pid>/schedstat, in nanoseconds)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
