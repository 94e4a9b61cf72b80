"""The cache of versioned values against a real Redis: what it keeps, what it believes, when it gives up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio

from chassis.cache.breaker import FAILURES_IN_A_ROW_MAX
from chassis.cache.clock import AHEAD_SECONDS_MAX, DatabaseClock
from chassis.cache.values import CachedValue, Signer
from chassis.cache.versioned import (
    NOTHING,
    VALUE_BYTES_MAX,
    WRITES_IN_BACKGROUND_MAX,
    Update,
    VersionedCache,
    Wanted,
)
from chassis.telemetry.metrics import Metrics
from homeroom.embedded.redis import Redis
from tests.support.redis_proxy import RedisProxy, redis_proxying
from tests.support.waiting import eventually

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
Make = Callable[..., Awaitable[VersionedCache]]


@pytest.fixture
async def proxy(redis_server: Redis, redis_url: str) -> AsyncIterator[RedisProxy]:
    async with redis_proxying(redis_server.url.removeprefix("unix://")) as proxy:
        yield proxy


@pytest.fixture
async def make(proxy: RedisProxy) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def made(**options: object) -> VersionedCache:
            clock = DatabaseClock()
            clock.learn(NOW, asked_at=time.monotonic())
            settings = {"read_seconds_max": 5.0, "stale_seconds": 60.0, "secret": "s", "url": proxy.url}
            cache = VersionedCache(
                name="test", clock=clock, metrics=Metrics(service="test"), **(settings | options)
            )
            stack.push_async_callback(cache.close)
            return cache

        yield made


@pytest.fixture
async def plain(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.from_url(redis_url)
    yield client
    await client.aclose()


def value(version: int, body: bytes = b"body", *, seconds: float = 0.0) -> CachedValue:
    return CachedValue(version, NOW + timedelta(seconds=seconds), body)


async def test_what_was_written_is_read_by_others_with_the_same_secret(make: Make) -> None:
    one, two, stranger = await make(), await make(), await make(secret="another")
    assert await one.write([Update("k", value(3, b"a b\n\0c"))]) == [True]
    (reading,) = await two.read([Wanted("k", 3)])
    assert (reading.value, reading.usable) == (value(3, b"a b\n\0c"), True)
    (reading,) = await stranger.read([Wanted("k")])
    assert (reading.value, reading.usable, bool(reading.digest)) == (None, False, True)


async def test_several_keys_are_read_in_their_order(make: Make) -> None:
    cache = await make()
    await cache.write([Update("a", value(1)), Update("c", value(2))])
    readings = await cache.read([Wanted("a"), Wanted("b"), Wanted("c", 3)])
    assert [reading.usable for reading in readings] == [True, False, False]
    assert readings[1] == NOTHING
    assert await cache.read([]) == []


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_the_newest_version_stays_whatever_the_order(make: Make, order: tuple[int, int]) -> None:
    cache = await make()
    for version in order:
        assert await cache.write([Update("k", value(version, str(version).encode()))]) == [True]
    (reading,) = await cache.read([Wanted("k")])
    assert reading.value == value(2, b"2")


async def test_of_one_version_the_one_that_was_read_last_stays(make: Make) -> None:
    cache = await make()
    for seconds in (1.0, 0.0):
        await cache.write([Update("k", value(1, str(seconds).encode(), seconds=seconds))])
    (reading,) = await cache.read([Wanted("k")])
    assert reading.value == value(1, b"1.0", seconds=1.0)


async def test_many_writers_at_once_leave_the_newest(make: Make) -> None:
    caches = [await make() for _ in range(3)]
    versions = [*range(1, 31)]
    writes = [caches[v % 3].write([Update("k", value(v))]) for v in versions]
    assert await asyncio.gather(*writes) == [[True]] * 30
    (reading,) = await caches[0].read([Wanted("k")])
    assert reading.value == value(30)


async def test_a_value_that_the_database_contradicts_is_replaced(make: Make) -> None:
    cache = await make()
    await cache.write([Update("k", value(900))])
    (reading,) = await cache.read([Wanted("k")])
    assert await cache.write([Update("k", value(1), after=reading)]) == [True]
    (reading,) = await cache.read([Wanted("k")])
    assert reading.value == value(1)


async def test_only_the_very_value_that_was_seen_is_replaced(make: Make) -> None:
    cache = await make()
    await cache.write([Update("k", value(900))])
    (reading,) = await cache.read([Wanted("k")])
    await cache.write([Update("k", value(901))])
    await cache.write([Update("k", value(1), after=reading)])
    (reading,) = await cache.read([Wanted("k")])
    assert reading.value == value(901)


async def test_a_value_under_another_key_is_not_believed(make: Make, plain: redis.asyncio.Redis) -> None:
    cache = await make()
    await cache.write([Update("mine", value(1))])
    stolen = await plain.get("mine")
    assert isinstance(stolen, bytes)
    await plain.set("yours", stolen)
    (reading,) = await cache.read([Wanted("yours")])
    assert reading.value is None


async def test_a_value_that_is_too_large_is_not_kept(make: Make, plain: redis.asyncio.Redis) -> None:
    cache = await make()
    assert await cache.write([Update("k", value(1, b"x" * VALUE_BYTES_MAX))]) == [False]
    assert await plain.get("k") is None


async def test_three_failures_open_the_breaker_and_a_probe_closes_it(make: Make, proxy: RedisProxy) -> None:
    cache = await make()
    await cache.write([Update("k", value(1))])
    proxy.down = True
    for failures in range(1, FAILURES_IN_A_ROW_MAX + 1):
        assert await cache.read([Wanted("k")]) == [NOTHING]
        assert cache.breaker_open == (failures == FAILURES_IN_A_ROW_MAX)
    assert await cache.write([Update("k", value(2))]) == [False]
    with pytest.raises(ConnectionError):
        await cache.check_health()
    proxy.down = False

    async def answers() -> bool:
        return (await cache.read([Wanted("k")]))[0].usable

    await eventually(answers)
    await cache.check_health()


async def test_a_redis_that_runs_no_scripts_is_not_taken_for_a_healthy_one(
    make: Make, proxy: RedisProxy, plain: redis.asyncio.Redis
) -> None:
    await plain.acl_setuser("cache", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-eval"])
    await plain.acl_log_reset()
    try:
        cache = await make(url=f"redis://cache:any@127.0.0.1:{proxy.port}/0")
        for _ in range(FAILURES_IN_A_ROW_MAX):
            assert await cache.read([Wanted("k")]) == [NOTHING]

        async def probed_twice() -> bool:
            await cache.read([Wanted("k")])
            assert cache.breaker_open
            refused: list[Any] = await plain.acl_log()
            return sum(entry["count"] for entry in refused) >= FAILURES_IN_A_ROW_MAX + 2

        await eventually(probed_twice)
        await plain.acl_setuser("cache", commands=["+eval"])

        async def answers() -> bool:
            return (await cache.write([Update("k", value(1))]))[0]

        await eventually(answers)
    finally:
        await plain.acl_deluser("cache")


async def test_a_success_between_failures_keeps_the_breaker_closed(make: Make, proxy: RedisProxy) -> None:
    cache = await make()
    for _ in range(3):
        proxy.down = True
        for _ in range(FAILURES_IN_A_ROW_MAX - 1):
            await cache.read([Wanted("k")])
        proxy.down = False
        await cache.read([Wanted("k")])
        assert not cache.breaker_open


async def test_a_slow_answer_is_not_taken_for_the_answer_to_the_next_question(
    make: Make, proxy: RedisProxy
) -> None:
    cache = await make(read_seconds_max=0.05)
    await cache.write([Update(key, value(1, key.encode())) for key in ("a", "b")])
    proxy.delay_seconds = 0.2
    for _ in range(FAILURES_IN_A_ROW_MAX - 1):
        assert await cache.read([Wanted("a")]) == [NOTHING]
    proxy.delay_seconds = 0.0

    async def read_b() -> bool:
        (reading,) = await cache.read([Wanted("b")])
        assert reading.value in (None, value(1, b"b"))
        return reading.usable

    await eventually(read_b)


async def test_a_caller_who_leaves_breaks_nothing(make: Make, proxy: RedisProxy) -> None:
    cache = await make()
    await cache.write([Update("k", value(1))])
    proxy.delay_seconds = 5.0
    for _ in range(5):
        task = asyncio.create_task(cache.read([Wanted("k")]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    proxy.delay_seconds = 0.0
    assert not cache.breaker_open
    (reading,) = await cache.read([Wanted("k")])
    assert reading.usable


async def test_only_a_few_writes_wait_in_the_background(make: Make, proxy: RedisProxy) -> None:
    cache = await make()
    proxy.delay_seconds = 5.0
    for number in range(20):
        cache.write_soon([Update(f"k{number}", value(1))])
    assert len(cache._tasks) == WRITES_IN_BACKGROUND_MAX


async def test_without_an_address_it_is_always_empty(make: Make) -> None:
    cache = await make(url=None)
    assert await cache.write([Update("k", value(1))]) == [False]
    assert await cache.read([Wanted("k")]) == [NOTHING]
    cache.write_soon([Update("k", value(1))])
    await cache.check_health()


async def test_a_caller_in_a_hurry_does_not_wait_for_a_slow_write_which_goes_on(
    make: Make, proxy: RedisProxy
) -> None:
    cache, reader = await make(), await make()
    await cache.write([Update("k", value(1))])
    proxy.delay_seconds = 0.5
    assert await cache.write([Update("k", value(2))], until=time.monotonic()) == [False]
    proxy.delay_seconds = 0.0

    async def written() -> bool:
        (reading,) = await reader.read([Wanted("k")])
        return reading.value == value(2)

    await eventually(written)
    assert not cache.breaker_open


@pytest.mark.parametrize(
    "answer",
    [
        b"*1\r\n:5\r\n",
        b"*1\r\n-ERR no\r\n",
        b"*1\r\n*0\r\n",
        b":5\r\n",
        b"*0\r\n",
        b"$-1\r\n",
        b"$1\r\n1\r\n",  # the parts of a reading: lengths and values
        b"$4\r\n1\nab\r\n",
        b"$5\r\n1 0\na\r\n",
        b"*2\r\n$1\r\n2\r\n*0\r\n",  # the parts of a write: flags and values
        b"*2\r\n$1\r\n0\r\n*0\r\n",
        b"*2\r\n$2\r\n11\r\n*0\r\n",
    ],
)
async def test_answers_that_are_no_values_are_as_good_as_none(make: Make, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while arguments := int((await reader.readuntil(b"\r\n"))[1:]):
                words = []
                for _ in range(arguments):
                    length = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(length + 2))[:-2])
                writer.write(answer if words[0].upper() == b"EVAL" else b":1\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        cache = await make(url=f"redis://127.0.0.1:{port}")
        (reading,) = await cache.read([Wanted("k")])
        assert (reading.value, reading.usable) == (None, False)
        assert await cache.write([Update("k", value(1))]) == [False]
        await cache.close()


def test_ages_are_those_of_the_databases_clock() -> None:
    clock = DatabaseClock()
    assert clock.age_seconds(NOW) is None
    clock.learn(NOW, asked_at=time.monotonic() - 10)
    assert clock.age_seconds(NOW) == pytest.approx(10, abs=1)
    assert clock.age_seconds(NOW + timedelta(seconds=10 + AHEAD_SECONDS_MAX / 2)) == 0.0
    assert clock.age_seconds(NOW + timedelta(hours=1)) is None


def test_a_signature_covers_key_version_time_and_body() -> None:
    signer = Signer(secret="s")
    stored = signer.encode("k", value(12))
    assert signer.decode("k", stored) == value(12)
    assert signer.decode("K", stored) is None
    for place in range(len(stored)):
        changed = bytearray(stored)
        changed[place] ^= 1
        assert signer.decode("k", bytes(changed)) is None
