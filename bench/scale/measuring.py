"""What the steps of a service cost, by its own handlers over one connection."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import Message

from bench.scale.plans import WatchedDatabase
from chassis.batch import Item, Reply
from chassis.context import Context
from chassis.postgres import Connection
from chassis.rpc.methods import find_method
from chassis.rpc.servicing import Handler, UnaryHandler

BATCH = 32
CALL_SECONDS_MAX = 60.0
ROLES = frozenset({"learner", "admin", "service"})


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

    def round(self, measure: Measure, learners: Sequence[int], batches: int) -> AsyncIterator[None]:
        """Do once all that is to be measured: each step in so many batches, of these learners.

        It yields after each step, so that rounds in several stores can take turns. The steps are the same in
        each round.
        """
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


def cpu_seconds(pid: int) -> float:
    """Time on a CPU (the first figure of /proc/<pid>/schedstat, in nanoseconds)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def _context(path: str, call: Call) -> Context:
    return Context(
        method=path,
        user_id=call.user_id,
        roles=ROLES,
        idempotency_key=call.key,
        request_id=str(uuid.uuid4()),
        deadline=_soon(),
        traceparent="",
    )


async def _flush_statistics(connection: Connection) -> None:
    await connection.execute("SELECT pg_stat_force_next_flush()")


def _soon() -> float:
    return time.monotonic() + CALL_SECONDS_MAX
