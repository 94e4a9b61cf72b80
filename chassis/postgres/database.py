"""Reads and writes with a deadline. Their outcome is always known: done, not done, or unknown by name."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import asyncpg

from chassis.postgres.errors import (
    DatabaseUnavailable,
    OutcomeUnknown,
    deadline_exceeded,
    is_conflict,
    is_lost_connection,
    is_server_fault,
    is_undecided,
    translate,
)
from chassis.postgres.pool import Connection, Pool
from chassis.telemetry.logs import get_logger
from chassis.telemetry.tracing import current_batch

T = TypeVar("T")
Work = Callable[[Connection], Awaitable[T]]

ATTEMPTS_MAX = 3
BACKOFF_SECONDS = 0.02
# How long after its deadline a COMMIT is still waited for: its answer tells whether the write was done.
COMMIT_GRACE_SECONDS = 1.0
WRITE_SECONDS_MAX = 10.0
PING_SECONDS_MAX = 1.0
LOCK_TIMEOUT_MS = 250
PATIENCE = f"""
    patience AS MATERIALIZED (
        SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_MS}ms', true) AS lock_timeout
    )
"""
"""Sets the lock timeout of a single statement. Join it with all that may wait, so that it comes first."""
_SPAN_ATTRIBUTES: Mapping[str, str] = {"db.system.name": "postgresql"}

log = get_logger(__name__)


class Database:
    """One PostgreSQL database, reached through a bounded pool of connections.

    Raises, from every method: `DatabaseUnavailable`, and `ServiceError` with DEADLINE_EXCEEDED, when nothing
    was written; `ConstraintViolation` or `InvalidValue` (both `DataRefused`) and `LockTimeout` when the
    database refused; and from the writing methods `OutcomeUnknown`. A span named `name` is recorded when the
    current batch is sampled.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._writes: set[asyncio.Task[Any]] = set()
        self._closing = False

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        minimum: int = 1,
        maximum: int = 8,
        waiting_max: int = 512,
        application_name: str = "homeroom",
        connect_timeout_seconds: float = 3.0,
        statement_cache_size: int = 256,
    ) -> Database:
        """Open `minimum` connections, and more on demand, up to `maximum`.

        Prepared statements make asyncpg fast: leave the cache on, unless a pgbouncer in transaction mode does
        not follow them (before 1.21, or with `max_prepared_statements = 0`); then it must be 0.

        Raises:
            DatabaseMisconfigured: the address, the user, the password or the database is wrong.
            DatabaseUnavailable: the database cannot be reached now.
        """

        async def open_connection() -> Connection:
            return await asyncpg.connect(
                dsn,
                timeout=connect_timeout_seconds,
                statement_cache_size=statement_cache_size,
                server_settings={"application_name": application_name},
            )

        pool = Pool(open_connection, maximum=maximum, waiting_max=waiting_max)
        await pool.fill(minimum)
        return cls(pool)

    @property
    def pool_size(self) -> int:
        """Connections that are open or being opened."""
        return self._pool.size

    @property
    def pool_idle(self) -> int:
        """Connections that nobody uses now."""
        return self._pool.idle

    @property
    def pool_waiting(self) -> int:
        """Calls that wait for a connection."""
        return self._pool.waiting

    async def ping(self) -> None:
        """Return when the database has answered, within a second.

        A ping does not wait behind requests: a process that is busy is still ready. When all connections are
        in use, an answer that one of them had within the last second is enough. Without such an answer, the
        ping opens a connection beside the pool.
        """
        if self._pool.exhausted:
            if time.monotonic() - self._pool.answered_at > PING_SECONDS_MAX:
                try:
                    async with asyncio.timeout(PING_SECONDS_MAX):
                        beside = await self._pool.open_beside()
                except TimeoutError as error:
                    raise DatabaseUnavailable("the database does not answer") from error
                beside.terminate()
            return

        async def work(connection: Connection) -> None:
            await connection.execute("SELECT 1")

        await self.read(work, deadline=time.monotonic() + PING_SECONDS_MAX, name="ping")

    async def read(self, work: Work[T], *, deadline: float, name: str = "read") -> T:
        """Run statements that change nothing, each on its own; once more if the connection was lost."""
        batch = current_batch()
        if batch is None:
            return await self._read(work, deadline)
        with batch.span(name, _SPAN_ATTRIBUTES):
            return await self._read(work, deadline)

    async def write(
        self, work: Work[T], *, deadline: float, lock_timeout_ms: int = LOCK_TIMEOUT_MS, name: str = "write"
    ) -> T:
        """Run `work` in one transaction and commit it.

        The transaction runs in a task of its own: when the caller is cancelled, it still commits or rolls
        back. `work` is run again, up to 3 times in all, when it lost against another transaction
        (serialization failure, deadlock). An exception that `work` raises rolls back and is raised here.
        """
        if lock_timeout_ms < 1:
            raise ValueError("lock_timeout_ms must be at least 1: 0 would mean no limit to PostgreSQL")
        writing = self._transaction(work, deadline, lock_timeout_ms)
        batch = current_batch()
        if batch is None:
            return await self._shielded(writing)
        with batch.span(name, _SPAN_ATTRIBUTES):
            return await self._shielded(writing)

    async def execute_write(
        self, sql: str, *arguments: object, deadline: float, name: str = "write"
    ) -> list[asyncpg.Record]:
        """Run one writing statement in a transaction of its own (autocommit) and return its rows.

        It has no lock timeout but the deadline. A statement that may wait for a row sets one itself, with
        PATIENCE, or runs in `write`, which costs two more round trips.
        """
        writing = self._statement(sql, arguments, deadline)
        batch = current_batch()
        if batch is None:
            return await self._shielded(writing)
        with batch.span(name, _SPAN_ATTRIBUTES):
            return await self._shielded(writing)

    async def close(self) -> None:
        """Wait for the writes under way (each has its own limit), then close the connections."""
        self._closing = True
        while self._writes:
            await asyncio.wait(self._writes)
        await self._pool.close()

    async def _shielded(self, writing: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(writing)
        self._writes.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: the caller may have been cancelled

    async def _read(self, work: Work[T], deadline: float) -> T:
        try:
            return await self._read_once(work, deadline)
        except DatabaseUnavailable as error:
            if error.__cause__ is None or not is_lost_connection(error.__cause__):
                raise
            return await self._read_once(work, deadline)

    async def _read_once(self, work: Work[T], deadline: float) -> T:
        connection = await self._take(deadline)
        try:
            async with asyncio.timeout(deadline - time.monotonic()) as limit:
                result = await work(connection)
        except BaseException as error:
            self._take_back(connection, error)
            translated = _translated_within(error, limit)
            if translated is error:
                raise
            raise translated from error
        self._pool.give_back(connection)
        return result

    async def _statement(
        self, sql: str, arguments: tuple[object, ...], deadline: float
    ) -> list[asyncpg.Record]:
        deadline = min(deadline, time.monotonic() + WRITE_SECONDS_MAX)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            connection = await self._take(deadline)
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    rows = await connection.fetch(sql, *arguments)
            except BaseException as error:
                self._take_back(connection, error)
                if is_conflict(error) and attempt < ATTEMPTS_MAX:
                    await _back_off(attempt)
                    continue
                if isinstance(error, Exception) and is_undecided(error):
                    raise OutcomeUnknown("the statement was not answered") from error
                translated = _translated(error)
                if translated is error:
                    raise
                raise translated from error
            self._pool.give_back(connection)
            return rows
        raise AssertionError  # the last attempt returns or raises

    async def _transaction(self, work: Work[T], deadline: float, lock_timeout_ms: int) -> T:
        deadline = min(deadline, time.monotonic() + WRITE_SECONDS_MAX - COMMIT_GRACE_SECONDS)
        loop = asyncio.get_running_loop()
        for attempt in range(1, ATTEMPTS_MAX + 1):
            connection = await self._begin(deadline, lock_timeout_ms)
            committing = False
            try:
                async with asyncio.timeout(deadline - time.monotonic()) as limit:
                    result = await work(connection)
                    committing = True
                    limit.reschedule(loop.time() + deadline - time.monotonic() + COMMIT_GRACE_SECONDS)
                    status = await connection.execute("COMMIT")
            except BaseException as error:
                if committing and isinstance(error, Exception) and is_undecided(error):
                    self._take_back(connection, error)
                    raise OutcomeUnknown("the commit was not answered") from error
                await self._pool.roll_back(connection)
                if is_conflict(error) and attempt < ATTEMPTS_MAX:
                    await _back_off(attempt)
                    continue
                translated = _translated_within(error, limit)
                if translated is error:
                    raise
                raise translated from error
            self._pool.give_back(connection)
            if status != "COMMIT":
                raise RuntimeError("nothing was committed: the work went on after a statement had failed")
            return result
        raise AssertionError  # the last attempt returns or raises

    async def _begin(self, deadline: float, lock_timeout_ms: int) -> Connection:
        """A connection with an open transaction. A lost one is replaced once: nothing was done there."""
        for last in (False, True):
            connection = await self._take(deadline)
            # The client keeps the deadline. The limits of the server end what a dead client has left behind.
            vanished_ms = int((deadline - time.monotonic() + COMMIT_GRACE_SECONDS) * 1000)
            try:
                async with asyncio.timeout(deadline - time.monotonic()) as limit:
                    await connection.execute(
                        f"BEGIN; SET LOCAL lock_timeout = {lock_timeout_ms:d}; "
                        f"SET LOCAL statement_timeout = {vanished_ms:d}; "
                        f"SET LOCAL idle_in_transaction_session_timeout = {vanished_ms:d}"
                    )
            except BaseException as error:
                self._take_back(connection, error)
                if is_lost_connection(error) and not last:
                    continue
                translated = _translated_within(error, limit)
                if translated is error:
                    raise
                raise translated from error
            return connection
        raise AssertionError  # the last round returns or raises

    async def _take(self, deadline: float) -> Connection:
        if self._closing:
            raise DatabaseUnavailable("the database is closed here")
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise deadline_exceeded()
        connection = self._pool.take_idle()
        if connection is not None:
            return connection
        try:
            async with asyncio.timeout(remaining):
                return await self._pool.take()
        except TimeoutError as error:
            raise DatabaseUnavailable("no connection became free in time") from error

    def _take_back(self, connection: Connection, error: BaseException) -> None:
        if is_lost_connection(error) or connection.is_closed():
            self._pool.discard(connection)
        elif isinstance(error, asyncpg.PostgresError):
            self._pool.give_back(connection)  # the statement has ended, in an error
        else:
            self._pool.clean(connection)  # a statement may still be running


def _translated_within(error: BaseException, limit: asyncio.Timeout) -> BaseException:
    if isinstance(error, TimeoutError) and limit.expired():
        return deadline_exceeded()
    return _translated(error)


def _translated(error: BaseException) -> BaseException:
    if is_server_fault(error) and isinstance(error, asyncpg.PostgresError):
        log.error("database_failed", sqlstate=error.sqlstate, problem=str(error))
    return translate(error)


async def _back_off(attempt: int) -> None:
    await asyncio.sleep(random.uniform(0, BACKOFF_SECONDS * 2**attempt))  # noqa: S311 — jitter, not a secret
