"""Reads and writes with a deadline. A write is done, not done, or it raises OutcomeUnknown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import asyncpg

from chassis.backoff import full_jitter
from chassis.postgres.errors import (
    DatabaseUnavailable,
    OutcomeUnknown,
    deadline_exceeded,
    is_conflict,
    is_lost_connection,
    is_server_fault,
    is_undecided,
    raise_translated,
    translate,
)
from chassis.postgres.pool import Connection, Pool
from chassis.telemetry.logs import get_logger
from chassis.telemetry.tracing import current_batch
from chassis.time_limits import TimeLimit

T = TypeVar("T")
Work = Callable[[Connection], Awaitable[T]]

ATTEMPTS_MAX = 3
BACKOFF_SECONDS = 0.02
BACKOFF_SECONDS_MAX = 0.1
# How long to wait for the answer of a COMMIT after the deadline: the answer shows whether the write was done.
COMMIT_GRACE_SECONDS = 1.0
WRITE_SECONDS_MAX = 10.0
CONNECT_SECONDS_MAX = 3.0
PING_SECONDS_MAX = 1.0
LOCK_TIMEOUT_MS = 250
PATIENCE = f"""
    patience AS MATERIALIZED (
        SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_MS}ms', true) AS lock_timeout
    )
"""
"""Sets the lock timeout of a single statement. Join it with all that may wait, so that it comes first."""
_SPAN_ATTRIBUTES: Mapping[str, str] = {"db.system.name": "postgresql"}
_NO_SPAN = nullcontext()

log = get_logger(__name__)


class Database:
    """One PostgreSQL database, reached through a bounded pool of connections.

    Every method may raise `DatabaseUnavailable`, or `ServiceError` with DEADLINE_EXCEEDED: nothing was
    written. It may raise `ConstraintViolation`, `InvalidValue` (both are `DataRefused`) or `LockTimeout`: the
    database refused. The writing methods may also raise `OutcomeUnknown`. A span with the name `name` is
    recorded when the current batch is sampled.
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
        statement_cache_size: int = 256,
    ) -> Database:
        """Open `minimum` connections, and more when they are needed, up to `maximum`.

        Prepared statements make asyncpg fast, so the cache should be on. It must be 0 behind a pgbouncer in
        transaction mode that does not support prepared statements (before 1.21, or with
        `max_prepared_statements = 0`).

        Raises:
            DatabaseMisconfigured: the address, the user, the password or the database is wrong.
            DatabaseUnavailable: the database cannot be reached now.
        """

        async def open_connection() -> Connection:
            return await asyncpg.connect(
                dsn,
                timeout=CONNECT_SECONDS_MAX,
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
        """Connections that are not in use."""
        return self._pool.idle

    @property
    def pool_waiting(self) -> int:
        """Calls that wait for a connection."""
        return self._pool.waiting

    async def ping(self) -> None:
        """Return when the database has answered; raises if it does not answer within a second.

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
        """Run statements that change nothing, outside a transaction. Tries once more on a lost connection."""
        with _span(name):
            try:
                return await self._read(work, deadline)
            except DatabaseUnavailable as error:
                if error.__cause__ is None or not is_lost_connection(error.__cause__):
                    raise
                return await self._read(work, deadline)

    async def write(
        self, work: Work[T], *, deadline: float, lock_timeout_ms: int = LOCK_TIMEOUT_MS, name: str = "write"
    ) -> T:
        """Run `work` in one transaction and commit it.

        The transaction runs in a task of its own: it still commits or rolls back when the caller is
        cancelled. After a conflict with another transaction (serialization failure, deadlock), `work` runs
        again, up to 3 times in all. An exception of `work` rolls back, and is raised here.
        """
        if lock_timeout_ms < 1:
            raise ValueError("lock_timeout_ms must be at least 1: for PostgreSQL, 0 means no limit")
        with _span(name):
            return await self._shielded(self._transaction(work, deadline, lock_timeout_ms))

    async def execute_write(
        self, sql: str, *arguments: object, deadline: float, name: str = "write"
    ) -> list[asyncpg.Record]:
        """Run one writing statement in a transaction of its own (autocommit) and return its rows.

        It has no lock timeout but the deadline. A statement that may wait for a row sets one itself, with
        PATIENCE, or runs in `write`, which costs two more round trips.
        """
        with _span(name):
            return await self._shielded(self._statement(sql, arguments, deadline))

    async def close(self) -> None:
        """Wait for the writes that have begun (each has its own limit), then close the connections."""
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
            task.exception()  # marks the exception as retrieved: the caller may have been cancelled

    async def _read(self, work: Work[T], deadline: float) -> T:
        connection = await self._take(deadline)
        limit = TimeLimit(deadline - time.monotonic())
        try:
            with limit:
                result = await work(connection)
        except BaseException as error:  # noqa: BLE001 - raised again, translated
            self._take_back(connection, error)
            raise_translated(error, _translated_within(error, expired=limit.expired))
        self._pool.give_back(connection)
        return result

    async def _statement(
        self, sql: str, arguments: tuple[object, ...], deadline: float
    ) -> list[asyncpg.Record]:
        deadline = min(deadline, time.monotonic() + WRITE_SECONDS_MAX)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            connection = await self._take(deadline)
            try:
                with TimeLimit(deadline - time.monotonic()):
                    rows = await connection.fetch(sql, *arguments)
            except BaseException as error:
                self._take_back(connection, error)
                if is_conflict(error) and attempt < ATTEMPTS_MAX:
                    await _back_off(attempt)
                    continue
                if isinstance(error, Exception) and is_undecided(error):
                    raise OutcomeUnknown("the statement was not answered") from error
                raise_translated(error, _translated(error))
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
                raise_translated(error, _translated_within(error, expired=limit.expired()))
            self._pool.give_back(connection)
            if status != "COMMIT":
                raise RuntimeError("nothing was committed: the work went on after a statement had failed")
            return result
        raise AssertionError  # the last attempt returns or raises

    async def _begin(self, deadline: float, lock_timeout_ms: int) -> Connection:
        """A connection with an open transaction. A lost one is replaced once: nothing was done on it."""
        for last in (False, True):
            connection = await self._take(deadline)
            # The client enforces the deadline. The limits in the server end the transaction of a dead client.
            vanished_ms = int((deadline - time.monotonic() + COMMIT_GRACE_SECONDS) * 1000)
            try:
                async with asyncio.timeout(deadline - time.monotonic()) as limit:
                    await connection.execute(
                        f"BEGIN; SET LOCAL lock_timeout = {lock_timeout_ms:d}; "
                        f"SET LOCAL statement_timeout = {vanished_ms:d}; "
                        f"SET LOCAL idle_in_transaction_session_timeout = {vanished_ms:d}"
                    )
            except BaseException as error:  # noqa: BLE001 - raised again, translated
                self._take_back(connection, error)
                if is_lost_connection(error) and not last:
                    continue
                raise_translated(error, _translated_within(error, expired=limit.expired()))
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
            self._pool.give_back(connection)  # the statement has ended with an error
        else:
            self._pool.clean(connection)  # a statement may still be running


def _span(name: str) -> AbstractContextManager[object]:
    """The span of a statement; it is not recorded when no request of the current batch is sampled."""
    batch = current_batch()
    return _NO_SPAN if batch is None else batch.span(name, _SPAN_ATTRIBUTES)


def _translated_within(error: BaseException, *, expired: bool) -> BaseException:
    if isinstance(error, TimeoutError) and expired:
        return deadline_exceeded()
    return _translated(error)


def _translated(error: BaseException) -> BaseException:
    if is_server_fault(error) and isinstance(error, asyncpg.PostgresError):
        log.error("database_failed", sqlstate=error.sqlstate, problem=str(error))
    return translate(error)


async def _back_off(attempt: int) -> None:
    await asyncio.sleep(full_jitter(attempt, base_seconds=BACKOFF_SECONDS, seconds_max=BACKOFF_SECONDS_MAX))
