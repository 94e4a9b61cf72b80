"""What the steps of a service cost, by its own handlers over one connection."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import Message

from bench.scale.plans import WatchedDatabase
from chassis.batch import Item, Reply
from chassis.context import Context
from chassis.postgres import Connection, Database
from chassis.rpc.methods import find_method
from chassis.rpc.servicing import Handler, UnaryHandler

BATCH = 32
CALL_SECONDS_MAX = 60.0
ROLES = frozenset({"learner", "admin", "service"})
BETWEEN_CHECKPOINTS = "between checkpoints"
AFTER_A_CHECKPOINT = "right after one"
STRANGERS = "learners nobody has read"
YARDSTICK = "the yardstick"
YARDSTICKS = 400
YARDSTICK_ROWS = 500
# Everybody whom the first two phases are about; the smallest store has not many more.
ACTIVE_LEARNERS = 480


class Call(NamedTuple):
    """A request of a learner; `key` is empty for a method that needs none."""

    user_id: str
    request: Message
    key: str = ""


class Subject(Protocol):
    """A service as the bench of scale sees it: how to fill its store, and what to do with it.

    Attributes:
        service: the name of its database.
        sizes: what is measured without other orders, from small to large.
        tables: those that grow with the learners. No statement may read one of them from end to end.
    """

    service: str
    sizes: Sequence[int]
    tables: Sequence[str]

    async def build(self, connection: Connection, size: int, told: Callable[[str], object]) -> int:
        """Fill the empty database; how many learners there are. The connection is that of a superuser."""
        ...

    def assemble(self, database: WatchedDatabase, secret: str) -> Sequence[Handler]:
        """The handlers of the service over this database."""
        ...

    async def round(self, measure: Measure, learners: Sequence[int], batches: int) -> None:
        """Do once all that is to be measured: each step in so many batches, of these learners."""
        ...


@dataclass(frozen=True)
class Cost:
    """What one item costs: microseconds, bytes, and pages of 8 KiB found in shared buffers or not."""

    wall_us: float
    service_cpu_us: float
    backend_cpu_us: float
    wal_bytes: float
    pages_hit: float
    pages_read: float

    @property
    def cpu_us(self) -> float:
        return self.service_cpu_us + self.backend_cpu_us


@dataclass(frozen=True)
class Measurement:
    """What the steps cost in a store of this size.

    `phase` is between checkpoints; right after one, when PostgreSQL writes whole pages to its log; or with
    learners of whom nothing is in the memory of PostgreSQL.
    """

    phase: str
    size: int
    learners: int
    size_mib: float
    steps: Mapping[str, Cost]


class Measure:
    """Runs steps, and keeps what each has cost."""

    def __init__(self, database: WatchedDatabase, handlers: Sequence[Handler], truth: Connection) -> None:
        self._database = database
        self._truth = truth
        self._backend = 0
        self._handlers = {
            handler.method.path: handler for handler in handlers if isinstance(handler, UnaryHandler)
        }
        self.costs: dict[str, Cost] = {}

    async def begin(self) -> None:
        self._backend = await self._database.read(
            lambda connection: connection.fetchval("SELECT pg_backend_pid()"), deadline=_soon()
        )
        self._database.statements.clear()

    async def calls(self, step: str, path: str, batches: Iterable[Sequence[Call]]) -> list[list[Any]]:
        """Send these batches one after the other; the responses of each. Raises if one is refused."""
        answer = self._handlers[path].answer
        wanted = list(batches)
        answers: list[list[Any]] = []

        async def send() -> None:
            for batch in wanted:
                items = [Item(_context(path, call), call.request) for call in batch]
                outcomes = await answer(items)
                for call, outcome in zip(batch, outcomes, strict=True):
                    if not isinstance(outcome, Reply) or outcome.replayed:
                        raise RuntimeError(f"{step}, {call.user_id}: {outcome}")
                answers.append(outcomes)

        await self.work(step, send, items=sum(map(len, wanted)))
        response = find_method(path).response_type
        return [[response.FromString(outcome.payload()) for outcome in batch] for batch in answers]

    async def work(self, step: str, run: Callable[[], Awaitable[object]], *, items: int) -> None:
        """Run this, and divide what it costs by the number of items."""
        before = await self._counters()
        wall, cpu = time.perf_counter(), time.process_time()
        await run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        after = await self._counters()
        backend, wal, hit, read = (late - early for early, late in zip(before, after, strict=True))
        self.costs[step] = Cost(
            wall_us=wall * 1e6 / items,
            service_cpu_us=cpu * 1e6 / items,
            backend_cpu_us=backend * 1e6 / items,
            wal_bytes=wal / items,
            pages_hit=hit / items,
            pages_read=read / items,
        )

    async def take_yardstick(self) -> None:
        """Measure work that is the same in every store: what it costs tells how slow the machine is now."""

        async def count(connection: Connection) -> None:
            await connection.fetchval("SELECT count(*) FROM generate_series(1, $1::integer)", YARDSTICK_ROWS)

        async def run() -> None:
            for _ in range(YARDSTICKS):
                # Not watched: this is no statement of the service.
                await Database.read(self._database, count, deadline=_soon())

        await self.work(YARDSTICK, run, items=YARDSTICKS)

    async def checkpoint(self) -> None:
        await self._truth.execute("CHECKPOINT")

    async def _counters(self) -> tuple[float, float, float, float]:
        """CPU seconds of the backend, bytes of WAL, pages found and pages read, until now."""
        await self._database.read(_flush_statistics, deadline=_soon())
        (row,) = await self._truth.fetch(
            """
            SELECT (pg_current_wal_insert_lsn() - '0/0')::float8 AS wal,
                   coalesce(sum(hits), 0)::float8 AS hit, coalesce(sum(reads), 0)::float8 AS read
              FROM pg_stat_get_backend_io($1)
             WHERE object = 'relation'
            """,
            self._backend,
        )
        return cpu_seconds(self._backend), row["wal"], row["hit"], row["read"]


async def measure_size(
    subject: Subject, measure: Measure, chance: random.Random, *, learners: int, batches: int, repeats: int
) -> dict[str, dict[str, Cost]]:
    """What each step costs in each phase; the first round warms up and does not count."""
    active = chance.sample(range(learners), min(ACTIVE_LEARNERS, learners))
    phases: dict[str, dict[str, Cost]] = {}
    await _round(subject, measure, chance, active, batches)
    for phase in (BETWEEN_CHECKPOINTS, AFTER_A_CHECKPOINT):
        rounds = []
        for _ in range(repeats):
            if phase is AFTER_A_CHECKPOINT:
                await measure.checkpoint()
            rounds.append(await _round(subject, measure, chance, active, batches))
        phases[phase] = {step: least_of([each[step] for each in rounds]) for step in rounds[0]}
    known = set(active)
    strangers = [number for number in chance.sample(range(learners), learners) if number not in known]
    if len(strangers) >= BATCH:
        phases[STRANGERS] = await _round(subject, measure, chance, strangers[: batches * BATCH], batches)
    return phases


async def _round(
    subject: Subject, measure: Measure, chance: random.Random, learners: Sequence[int], batches: int
) -> dict[str, Cost]:
    measure.costs = {}
    await measure.take_yardstick()
    await subject.round(measure, chance.sample(learners, len(learners)), batches)
    return measure.costs


def least_of(costs: Sequence[Cost]) -> Cost:
    """The least of each figure: other work on the machine can only add to it."""
    columns = [asdict(cost) for cost in costs]
    return Cost(**{name: min(column[name] for column in columns) for name in columns[0]})


def cpu_seconds(pid: int) -> float:
    """Time on a CPU (the first figure of /proc/<pid>/schedstat, in nanoseconds)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def _context(path: str, call: Call) -> Context:
    return Context(
        method=path,
        user_id=call.user_id,
        roles=ROLES,
        idempotency_key=call.key,
        request_id="",
        deadline=_soon(),
        traceparent="",
    )


async def _flush_statistics(connection: Connection) -> None:
    await connection.execute("SELECT pg_stat_force_next_flush()")


def _soon() -> float:
    return time.monotonic() + CALL_SECONDS_MAX
