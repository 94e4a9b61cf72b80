"""Rate limits: what a caller gets, what gateways share, and what Redis may do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from chassis.telemetry.metrics import Metrics
from gateway.client_address import ForwardedHeader
from gateway.networks import Networks
from gateway.rate_limits import PAUSE_SECONDS, Limiter, Quota, RateLimits, SharedCounts
from gateway.shared_counts import RedisCounts
from homeroom.embedded.redis import Redis
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway, running_gateway

USER = Quota("user", 10, 60)
ADDRESS = Quota("address", 1000, 60)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counts:
    """Shared counts without a server; `broken` makes them fail."""

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        self.broken = False
        self.asked = 0

    async def add(self, key: str, amount: int, *, expiry_seconds: int) -> int:
        self.asked += 1
        if self.broken:
            raise ConnectionError
        self.sums[key] = self.sums.get(key, 0) + amount
        return self.sums[key]

    async def close(self) -> None: ...


def rate_limits(
    *,
    user: Quota | None = USER,
    address: Quota | None = ADDRESS,
    counts: SharedCounts | None = None,
    clock: Clock | None = None,
    owners_max: int = 1000,
) -> RateLimits:
    return RateLimits(
        user=user,
        address=address,
        counts=counts,
        metrics=Metrics(service="test"),
        clock=clock or Clock(),
        owners_max=owners_max,
    )


def is_admitted(limits: RateLimits, user: str = "ada") -> bool:
    with contextlib.suppress(ServiceError):
        limits.take_user(user)
        return True
    return False


def _key_of(user: str) -> str:
    return f"user:{hashlib.blake2b(user.encode(), digest_size=16).hexdigest()}"


def admitted(limits: RateLimits, user: str = "ada", tries: int = 1000) -> int:
    """How many requests of a user are admitted until the first refusal."""
    for number in range(tries):
        if not is_admitted(limits, user):
            return number
    return tries


def test_a_quota_can_be_used_at_once_and_comes_back_evenly() -> None:
    clock = Clock()
    limits = rate_limits(clock=clock)
    assert admitted(limits) == 10
    clock.now += 6.0  # a tenth of the window
    assert admitted(limits) == 1
    clock.now += 3600.0
    assert admitted(limits) == 10
    assert admitted(limits, "grace") == 10


def test_the_headers_say_what_is_left() -> None:
    limits = rate_limits()
    assert limits.take_user("ada") == (
        'RateLimit-Policy: "user";q=10;w=60, "address";q=1000;w=60\r\nRateLimit: "user";r=9;t=6\r\n'
    )
    admitted(limits)
    with pytest.raises(ServiceError) as refused:
        limits.take_user("ada")
    assert refused.value.reason is Reason.RATE_LIMITED
    assert refused.value.retry_after_seconds == pytest.approx(6.0)


def test_no_quota_is_no_limit() -> None:
    limits = rate_limits(user=None, address=None)
    assert admitted(limits) == 1000
    assert limits.take_user("ada") == ""
    limits.take_address("192.0.2.1")


def test_a_flood_of_owners_takes_bounded_memory_and_spares_the_busy_ones() -> None:
    limiter = Limiter(
        USER,
        clock=Clock(),
        refused=Metrics(service="test").counter("refused", "", ("quota",)),
        owners_max=100,
    )
    for _ in range(10):
        limiter.take("busy")
    for number in range(10_000):
        limiter.take(f"address-{number}")
        with pytest.raises(ServiceError):
            limiter.take("busy")
    assert len(limiter) <= 100


async def test_gateways_share_a_quota_within_the_documented_bound() -> None:
    counts, quota = Counts(), Quota("user", 1000, 3600)
    gateways = [rate_limits(user=quota, counts=counts) for _ in range(4)]
    total = 0
    for _ in range(2000):
        for limits in gateways:
            total += is_admitted(limits)
            await limits.sync()
    assert 1000 <= total <= 1000 * (1 + 4 / 10)
    # Reports are rare: one for each tenth of the quota.
    assert counts.asked <= total / 100 + 4


async def test_an_ordinary_caller_causes_no_report() -> None:
    counts = Counts()
    limits = rate_limits(user=Quota("user", 1000, 60), counts=counts)
    for number in range(1000):
        limits.take_user(f"user-{number}")
    await limits.sync()
    assert counts.asked == 0


async def test_after_a_flood_of_owners_each_one_is_reported_again() -> None:
    counts = Counts()
    limits = rate_limits(counts=counts, owners_max=100)
    for number in range(100):
        limits.take_user(f"user-{number}")  # one request is a tenth of the quota: all are due
    limits.take_user("ada")
    await limits.sync()
    limits.take_user("ada")
    await limits.sync()
    assert counts.sums[_key_of("ada")] == 2


async def test_while_the_shared_counts_fail_each_gateway_counts_alone() -> None:
    counts, clock = Counts(), Clock()
    limits = rate_limits(counts=counts, clock=clock)
    counts.broken = True
    assert admitted(limits) == 10
    assert await limits.sync() == PAUSE_SECONDS
    clock.now += 60.0
    assert admitted(limits) == 10
    counts.broken = False
    assert await limits.sync() is None


async def test_a_count_that_expired_begins_again() -> None:
    counts, clock = Counts(), Clock()
    one, other = (rate_limits(counts=counts, clock=clock) for _ in range(2))
    assert admitted(other) == 10
    await other.sync()
    one.take_user("ada")
    await one.sync()
    assert admitted(one) == 0  # the other one has given out everything
    counts.sums.clear()
    clock.now += 120.0
    one.take_user("ada")
    await one.sync()
    assert admitted(one) == 9


@asynccontextmanager
async def limited(
    backend: Backend, gateway: Gateway, limits: RateLimits, **options: Any
) -> AsyncIterator[Gateway]:
    async with running_gateway(
        upstream_port=backend.port, identity=gateway.identity, rate_limits=limits, **options
    ) as made:
        yield made


async def test_too_many_requests_of_a_user_are_429_with_retry_after(
    backend: Backend, gateway: Gateway
) -> None:
    async with limited(backend, gateway, rate_limits()) as made:
        for left in range(9, -1, -1):
            answer = await made.request("GET", "/v1/stats")
            assert answer.status == 200
            assert re.fullmatch(rf'"user";r={left};t=\d+', answer.headers["RateLimit"])
            assert answer.headers["RateLimit-Policy"] == '"user";q=10;w=60, "address";q=1000;w=60'
        refused = await made.request("GET", "/v1/stats")
        assert (refused.status, refused.reason) == (429, "RATE_LIMITED")
        assert int(refused.headers["Retry-After"]) in range(1, 7)
        assert refused.headers["RateLimit"].startswith('"user";r=0;t=')
        assert len(backend.items) == 10
        other = await made.request("GET", "/v1/stats", token=gateway.identity.token("grace"))
        assert other.status == 200


async def test_an_address_is_limited_before_its_token_is_checked(backend: Backend, gateway: Gateway) -> None:
    limits = rate_limits(user=None, address=Quota("address", 3, 60))
    async with limited(backend, gateway, limits) as made:
        statuses = [(await made.request("GET", "/v1/stats", token="x")).status for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        for path in ("/openapi.json", "/docs", "/v1/nothing"):
            assert (await made.request("GET", path, token=None)).status == 429
        # A load balancer's checks are not counted.
        assert (await made.request("GET", "/livez", token=None)).status == 200


@pytest.mark.parametrize(
    ("header", "values", "counted"),
    [
        ("X-Forwarded-For", ["198.51.100.7"], "198.51.100.7"),
        ("X-Forwarded-For", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("X-Forwarded-For", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("X-Forwarded-For", ["198.51.100.7, 127.0.0.2"], "198.51.100.7"),
        ("X-Forwarded-For", ["198.51.100.7:4711"], "198.51.100.7"),
        ("X-Forwarded-For", ["2001:db8:1:2:3::4"], "2001:db8:1:2::"),
        ("X-Forwarded-For", ["unknown"], "127.0.0.1"),
        ("X-Forwarded-For", [""], "127.0.0.1"),
        ("X-Forwarded-For", ["127.0.0.2"], "127.0.0.1"),
        ("Forwarded", ["for=198.51.100.7;proto=https"], "198.51.100.7"),
        ("Forwarded", ['for="[2001:db8:1:2:3::4]:80"'], "2001:db8:1:2::"),
        ("Forwarded", ["for=203.0.113.9, By=x;FOR=198.51.100.7"], "198.51.100.7"),
        ("Forwarded", ["for=_hidden"], "127.0.0.1"),
        ("Forwarded", ["by=198.51.100.7"], "127.0.0.1"),
    ],
)
async def test_a_trusted_proxy_tells_the_address(
    backend: Backend, gateway: Gateway, header: str, values: Sequence[str], counted: str
) -> None:
    limits = rate_limits()
    async with limited(
        backend, gateway, limits, proxies=["127.0.0.0/8"], proxy_header=ForwardedHeader(header)
    ) as made:
        lines = "".join(f"{header}: {value}\r\n" for value in values)
        await made.raw(f"GET /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
    assert list(limits._address._young) == [counted]


async def test_nobody_else_can_tell_an_address(backend: Backend, gateway: Gateway) -> None:
    for proxies, header in (((), "X-Forwarded-For"), (("10.0.0.0/8",), "X-Forwarded-For"), ((), "Forwarded")):
        limits = rate_limits()
        async with limited(backend, gateway, limits, proxies=proxies) as made:
            await made.request("GET", "/v1/stats", headers={header: "198.51.100.7"})
        assert list(limits._address._young) == ["127.0.0.1"]
    assert "127.0.0.1" in Networks(["127.0.0.0/8"])


async def test_two_gateways_share_a_quota_through_redis(
    backend: Backend, gateway: Gateway, redis_server: Redis
) -> None:
    quota = Quota("user", 20, 3600)
    stores = [RedisCounts(redis_server.url) for _ in range(2)]
    both = [rate_limits(user=quota, counts=counts) for counts in stores]
    async with limited(backend, gateway, both[0]) as one, limited(backend, gateway, both[1]) as other:
        done = 0
        for _ in range(40):
            for made, limits in ((one, both[0]), (other, both[1])):
                done += (await made.request("GET", "/v1/stats")).status == 200
                assert await limits.sync() is None
    assert 20 <= done <= 24
    for counts in stores:
        await counts.close()


async def test_a_redis_that_hangs_or_is_away_costs_no_request_anything(
    backend: Backend, gateway: Gateway, redis_server: Redis
) -> None:
    counts = RedisCounts(redis_server.url)
    limits = rate_limits(counts=counts)
    async with limited(backend, gateway, limits) as made:
        await limits.sync()
        pid = redis_server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        assert (await made.request("GET", "/v1/stats")).status == 200
        assert await limits.sync() == PAUSE_SECONDS
        for _ in range(9):
            assert (await made.request("GET", "/v1/stats")).status == 200
        assert (await made.request("GET", "/v1/stats")).status == 429
        os.kill(pid, signal.SIGCONT)
        assert await limits.sync() is None
    await counts.close()
    away = RedisCounts("redis://127.0.0.1:1/0")
    limits = rate_limits(counts=away)
    assert admitted(limits) == 10
    assert await limits.sync() == PAUSE_SECONDS
    await asyncio.wait_for(away.close(), timeout=5)
