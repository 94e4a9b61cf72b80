"""A cache of versioned values in Redis: a write replaces only what is older, and is read back."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chassis.cache.breaker import Breaker
from chassis.cache.clock import DatabaseClock
from chassis.cache.scripts import READ, REMOVE_SAME, REPLACE_OLDER, read_back_of, values_of
from chassis.cache.values import CachedValue, Signer
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics

CONNECTIONS_MAX = 8
# Nobody waits longer for a value; PostgreSQL answers in less.
READ_SECONDS_MAX = 0.05
# For a write and for reading it back.
WRITE_SECONDS_MAX = 2.0
STALE_SECONDS = 5.0
VALUE_BYTES_MAX = 64 * 1024
# Writes of which no caller waits for the end.
WRITES_IN_BACKGROUND_MAX = 4
# Writes whose callers may have to leave before the end.
WRITES_HURRIED_MAX = 64
WRITE_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)

T = TypeVar("T")

log = get_logger(__name__)


class Wanted(NamedTuple):
    """A key to read; a value with a lower version than `min_version` is of no use."""

    key: str
    min_version: int = 0


class Reading(NamedTuple):
    """What is stored for a key: a value of ours or None, whether it is of use, and the bytes of it."""

    value: CachedValue | None = None
    usable: bool = False
    stored: bytes | None = None

    @property
    def digest(self) -> str:
        """Names the stored bytes; empty if there are none."""
        return "" if self.stored is None else hashlib.sha1(self.stored, usedforsecurity=False).hexdigest()

    def contradicted_by(self, later: CachedValue) -> bool:
        """Whether what is stored cannot be, because the database said this after the reading."""
        if self.value is None:
            return self.stored is not None
        return self.value.version > later.version or self.value.read_at > later.read_at


NOTHING = Reading()


class Update(NamedTuple):
    """A value to write; `after` is the reading of its key, if the value was read after that."""

    key: str
    value: CachedValue
    after: Reading = NOTHING


class VersionedCache:
    """Values by key, each usable for `stale_seconds` after it was read from the database.

    No method raises, except when its caller is cancelled: a cache that does not answer is as good as empty.
    After three failures in a row nothing is asked of it until a probe has succeeded.

    Args:
        url: the address of Redis; None: there is none, and the cache is always empty.
        secret: signs the values; the same in all processes that share them.
        name: names the cache in metrics.
        clock: learns the database's time from whoever reads it.
    """

    def __init__(
        self,
        *,
        url: str | None,
        secret: str,
        name: str,
        clock: DatabaseClock,
        metrics: Metrics,
        stale_seconds: float = STALE_SECONDS,
        read_seconds_max: float = READ_SECONDS_MAX,
        write_seconds_max: float = WRITE_SECONDS_MAX,
    ) -> None:
        self._client = None if url is None else _client(url)
        self._signer = Signer(secret=secret)
        self._name = name
        self._clock = clock
        self._stale_seconds = stale_seconds
        self._read_seconds_max = read_seconds_max
        self._write_seconds_max = write_seconds_max
        self._breaker = Breaker()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writing = 0
        self._hurried = 0
        self._reads = metrics.counter(
            "cache_reads",
            "Values asked for: a hit, a miss, stale (too old, or older than the caller wants), a mismatch "
            "(not ours, or from a future that never was), failed, or skipped because the breaker is open.",
            ("cache", "result"),
        )
        self._writes = metrics.histogram(
            "cache_update_seconds",
            "Writes with their reading back: confirmed, unconfirmed, failed, or skipped.",
            ("cache", "result"),
            WRITE_BUCKETS_SECONDS,
        )
        metrics.gauge_of(
            "cache_breaker_open",
            "1 while a cache is not asked because it did not answer.",
            lambda: float(self.breaker_open),
            label="cache",
            value=name,
        )

    @property
    def breaker_open(self) -> bool:
        return self._breaker.open

    async def read(self, wanted: Sequence[Wanted]) -> list[Reading]:
        """A reading for each key, from one MGET; within the time limit of a read."""
        if not wanted:
            return []
        client = self._usable()
        if client is None:
            self._count("skipped", len(wanted))
            return [NOTHING] * len(wanted)
        stored = await self._within(self._read_seconds_max, _get(client, [each.key for each in wanted]))
        if stored is None:
            self._count("failed", len(wanted))
            return [NOTHING] * len(wanted)
        readings = [self._reading(each, value) for each, value in zip(wanted, stored, strict=True)]
        if hits := sum(reading.usable for reading in readings):
            self._count("hit", hits)
        return readings

    async def write(self, updates: Sequence[Update], *, until: float = math.inf) -> list[bool]:
        """Write these values, and read them back; whether each key now has this version or a later one.

        The caller waits until this moment (of `time.monotonic()`) at most. What has not been read back by
        then counts as not written; the write itself goes on.
        """
        patience_seconds = until - time.monotonic()
        if patience_seconds >= self._write_seconds_max:
            return await self._write(updates)
        if self._hurried >= WRITES_HURRIED_MAX:
            self._writes.observe((self._name, "skipped"), 0.0)
            return [False] * len(updates)
        self._hurried += 1
        writing = self._start(self._write(updates))
        writing.add_done_callback(self._hurried_ended)
        await asyncio.wait([writing], timeout=max(0.0, patience_seconds))
        return writing.result() if writing.done() and not writing.cancelled() else [False] * len(updates)

    def _hurried_ended(self, _: object) -> None:
        self._hurried -= 1

    async def _write(self, updates: Sequence[Update]) -> list[bool]:
        updates = list(updates)
        client = self._usable()
        if client is None:
            self._writes.observe((self._name, "skipped"), 0.0)
            return [False] * len(updates)
        began = time.monotonic()
        values = await self._within(self._write_seconds_max, self._replace(client, updates))
        confirmed = values if values is not None else [False] * len(updates)
        result = "failed" if values is None else "confirmed" if all(confirmed) else "unconfirmed"
        self._writes.observe((self._name, result), time.monotonic() - began)
        return confirmed

    def write_soon(self, updates: Sequence[Update]) -> None:
        """Write these values in the background. While too many of such writes are under way, do nothing."""
        for update in updates:
            if update.after.value is not None and update.after.contradicted_by(update.value):
                self._count("mismatch")
        if updates and self._writing < WRITES_IN_BACKGROUND_MAX and self._usable() is not None:
            self._writing += 1
            self._start(self._write_in_background(updates))

    async def remove(self, key: str, *, digest: str) -> bool:
        """Remove the value of a key, if it is the one with this digest. Whether it was removed."""
        client = self._usable()
        if client is None:
            return False

        async def compare_and_remove() -> object:
            script: Any = client.eval(REMOVE_SAME, 1, key, digest)
            return await script

        return await self._within(self._write_seconds_max, compare_and_remove()) == 1

    async def check_health(self) -> None:
        """For a readiness check; raises if Redis is not asked at the moment."""
        if self._client is not None and self._usable() is None:
            raise ConnectionError("Redis does not answer")

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose(close_connection_pool=True)

    async def _write_in_background(self, updates: Sequence[Update]) -> None:
        try:
            await self.write(updates)
        finally:
            self._writing -= 1

    async def _replace(self, client: redis.asyncio.Redis, updates: Sequence[Update]) -> list[bool]:
        """Write what may be written, and read it back; whether each key has this version or a later one."""
        arguments: list[bytes | str | int] = [update.key for update in updates]
        arguments.append(int(self._stale_seconds * 1000) or 1)
        for update in updates:
            value = self._signer.encode(update.key, update.value)
            arguments.append(value if len(value) <= VALUE_BYTES_MAX else b"")
            after = update.after
            arguments.append(
                after.digest if after is not NOTHING and after.contradicted_by(update.value) else b""
            )
        script: Any = client.eval(REPLACE_OLDER, len(updates), *arguments)
        held, others = read_back_of(await script, len(updates))
        found = iter(others)
        return [
            each or self._is_as_late(update, next(found)) for update, each in zip(updates, held, strict=True)
        ]

    def _is_as_late(self, update: Update, stored: bytes | None) -> bool:
        """Whether something else that a key holds is this version all the same, or a later one."""
        found = self._decoded(update.key, stored)
        return found is not None and found.version >= update.value.version

    def _reading(self, wanted: Wanted, stored: bytes | None) -> Reading:
        if stored is None:
            self._count("miss")
            return NOTHING
        value = self._decoded(wanted.key, stored)
        if value is None:
            self._count("mismatch")
            return Reading(stored=stored)
        age = self._clock.age_seconds(value.read_at)
        if age is None or age > self._stale_seconds or value.version < wanted.min_version:
            self._count("stale")
            return Reading(value, usable=False, stored=stored)
        return Reading(value, usable=True, stored=stored)

    def _decoded(self, key: str, stored: bytes | None) -> CachedValue | None:
        return None if stored is None else self._signer.decode(key, stored)

    def _count(self, result: str, amount: int = 1) -> None:
        self._reads.add(self._name, result, amount=amount)

    def _usable(self) -> redis.asyncio.Redis | None:
        """The client, unless the breaker is open; then a probe is begun when one is due."""
        if self._client is None or not self._breaker.open:
            return self._client
        if self._breaker.probe_due():
            self._start(self._probe(self._client))
        return None

    async def _probe(self, client: redis.asyncio.Redis) -> None:
        await self._within(self._read_seconds_max, _get(client, ["probe"]))

    def _start(self, work: Awaitable[T]) -> asyncio.Task[T]:
        async def run() -> T:
            return await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks the exception as retrieved: nobody may wait any more

    async def _within(self, seconds_max: float, work: Awaitable[T]) -> T | None:
        """The result of the work; None if it fails, or takes longer. The breaker counts both.

        The work has a task of its own, because redis-py swallows some cancellations. So neither the limit nor
        a caller who leaves depends on them. The socket's own time limit ends what is still under way.
        """
        task = self._start(work)
        try:
            await asyncio.wait({task}, timeout=seconds_max)
        except asyncio.CancelledError:
            task.cancel()
            raise
        error: BaseException | None
        if not task.done():
            task.cancel()
            error = TimeoutError(f"no answer within {seconds_max} s")
        else:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            if self._breaker.open:
                log.info("cache_breaker_closed", cache=self._name)
            self._breaker.succeeded()
            return task.result()
        if not isinstance(error, RedisError | OSError | TimeoutError):
            log.warning("cache_misbehaved", cache=self._name, exc_info=error)
        if self._breaker.failed():
            log.warning("cache_breaker_opened", cache=self._name, problem=repr(error))
        return None


async def _get(client: redis.asyncio.Redis, keys: list[str]) -> list[bytes | None]:
    script: Any = client.eval(READ, len(keys), *keys)
    return values_of(await script, len(keys))


def _client(url: str) -> redis.asyncio.Redis:
    """A client that connects when it is first used, and never retries by itself."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=WRITE_SECONDS_MAX,
        socket_connect_timeout=WRITE_SECONDS_MAX,
        socket_timeout=WRITE_SECONDS_MAX,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # no HELLO: nothing of RESP3 is used
        driver_info=None,
    )
    return redis.asyncio.Redis.from_pool(pool)


def check_redis_url(url: Any) -> str | None:
    """What is wrong with an address of Redis, or None: for `rules(check=...)`."""
    try:
        redis.asyncio.ConnectionPool.from_url(url)
    except ValueError as error:
        return str(error)
    return None
