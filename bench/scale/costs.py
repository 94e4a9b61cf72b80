"""What it costs to place and commit a hold and to read entitlements, by the service's own handlers."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from google.protobuf.message import Message

from bench.scale.subscription_population import METHOD, learner
from chassis.batch import Item, Reply
from chassis.context import service_context
from chassis.postgres import Connection
from chassis.rpc.servicing import Handler, UnaryHandler
from protos.subscription.v1 import accounts_pb2, holds_pb2

BATCH = 32
PLACE_HOLD = "/homeroom.subscription.v1.HoldService/PlaceHold"
COMMIT_HOLD = "/homeroom.subscription.v1.HoldService/CommitHold"
GET_ENTITLEMENTS = "/homeroom.subscription.v1.AccountService/GetEntitlements"
CALL_SECONDS_MAX = 10.0
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
    """`phase` is between checkpoints, or right after one, when PostgreSQL writes whole pages to its log."""

    phase: str
    holds: int
    accounts: int
    size_mib: float
    place: Cost
    commit: Cost
    entitlements: Cost


class Bench:
    """The handlers of the service over one connection, so that the CPU of its backend is known."""

    def __init__(
        self, handlers: Sequence[Handler], truth: Connection, backend: int, choices: random.Random
    ) -> None:
        self.truth = truth
        self.backend = backend
        self.choices = choices
        self.handlers = {
            handler.method.path: handler for handler in handlers if isinstance(handler, UnaryHandler)
        }

    async def measure(
        self, accounts: int, *, batches: int, repeats: int, phase: str = BETWEEN_CHECKPOINTS
    ) -> Measurement:
        """The best of several rounds; the first one warms up and does not count."""
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
        commits = [[commit_of(placement) for placement in batch] for batch in placements]
        reads = [[read_of(placement) for placement in batch] for batch in placements]
        return (
            await self._cost(PLACE_HOLD, placements),
            await self._cost(COMMIT_HOLD, commits),
            await self._cost(GET_ENTITLEMENTS, reads),
        )

    async def _cost(self, path: str, batches: Sequence[Sequence[Message]]) -> Cost:
        wal = await self.truth.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        wall, service, backend = time.perf_counter(), time.process_time(), cpu_seconds(self.backend)
        for batch in batches:
            await self._answer(path, batch)
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

    async def _answer(self, path: str, requests: Sequence[Message]) -> None:
        context = service_context(path, timeout_seconds=CALL_SECONDS_MAX)
        outcomes = await self.handlers[path].answer([Item(context, request) for request in requests])
        refused = [outcome for outcome in outcomes if not isinstance(outcome, Reply)]
        if refused:
            raise RuntimeError(f"{path} was refused: {refused[0]}")


def placement_of(number: int) -> holds_pb2.PlaceHoldRequest:
    hold_id = str(uuid.uuid4())
    return holds_pb2.PlaceHoldRequest(
        user_id=learner(number),
        hold_id=hold_id,
        tests=1,
        subject=f"test-{hold_id}#1",
        method=METHOD,
        idempotency_key=f"key-{hold_id}",
    )


def commit_of(placement: holds_pb2.PlaceHoldRequest) -> holds_pb2.CommitHoldRequest:
    return holds_pb2.CommitHoldRequest(user_id=placement.user_id, hold_id=placement.hold_id)


def read_of(placement: holds_pb2.PlaceHoldRequest) -> accounts_pb2.GetEntitlementsRequest:
    return accounts_pb2.GetEntitlementsRequest(user_id=placement.user_id)


def least_of(costs: Sequence[Cost]) -> Cost:
    """The least of each figure: other work on the machine can only add to it."""
    columns = [asdict(cost) for cost in costs]
    return Cost(**{name: min(column[name] for column in columns) for name in columns[0]})


def cpu_seconds(pid: int) -> float:
    """Time on a CPU (the first figure of /proc/<pid>/schedstat, in nanoseconds)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
