"""Rate limits of a user and of an address: token buckets in this process, which gateways share through Redis.

A request costs no round trip. A bucket that has given out a tenth of its quota is reported to Redis in the
background, and learns there what the other gateways have given out. So with G gateways a caller gets at most
`q * (1 + G / 10)` requests at once, and what is admitted while a report is under way (docs/rate-limits.md).
Without Redis each gateway counts alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from chassis.errors import Reason, ServiceError
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Counter, Metrics
from gateway.problems import HttpRefusal

# A bucket is reported when it has given out this share of its quota.
REPORTED_SHARE = 0.1
SYNC_SECONDS = 0.2
SYNC_SECONDS_MAX = 0.5
REPORTS_PER_SYNC_MAX = 100
# After a failure, Redis is left alone for this long.
PAUSE_SECONDS = 5.0
# The owners that are remembered for each quota. A bucket takes about 300 bytes.
OWNERS_MAX = 50_000

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Quota:
    """At most this many requests of one owner in a window of this many seconds."""

    name: str
    requests_max: int
    window_seconds: int

    @property
    def policy(self) -> str:
        """The item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""
        return f'"{self.name}";q={self.requests_max};w={self.window_seconds}'


class SharedCounts(Protocol):
    """Counts that all gateways add to."""

    async def add(self, key: str, amount: int, *, expiry_seconds: int) -> int:
        """Adds to a count, which expires this long after its first addition; returns the sum."""

    async def close(self) -> None: ...


class Bucket:
    """What one owner may still ask."""

    __slots__ = ("at", "level", "seen", "unreported")

    def __init__(self, level: float, at: float) -> None:
        self.level = level
        self.at = at
        self.unreported = 0
        self.seen = 0
        """The shared count after the last report."""


class Limiter:
    """One quota for many owners.

    The buckets that were not used for long are forgotten: they are in two generations, and when the younger
    one is full, the older one is dropped. So the memory is bounded, and a hit costs one look-up.
    """

    def __init__(
        self,
        quota: Quota,
        *,
        clock: Callable[[], float],
        refused: Counter,
        owners_max: int = OWNERS_MAX,
    ) -> None:
        self.quota = quota
        self._clock = clock
        self._refused = refused
        self._name = quota.name
        self._size = float(quota.requests_max)
        self._rate = quota.requests_max / quota.window_seconds
        self._share = max(1, math.ceil(quota.requests_max * REPORTED_SHARE))
        self._owners_max = owners_max
        self._generation_max = max(1, owners_max // 2)
        self._young: dict[str, Bucket] = {}
        self._old: dict[str, Bucket] = {}
        self._due: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def take(self, owner: str) -> Bucket:
        """Takes one request from the owner's bucket. Raises ServiceError: RATE_LIMITED, if it is empty."""
        now = self._clock()
        bucket = self._young.get(owner) or self._remember(owner, now)
        level = bucket.level + (now - bucket.at) * self._rate
        bucket.at = now
        if level > self._size:
            level = self._size
        elif level < 1.0:
            bucket.level = level
            raise self._refusal(bucket)
        bucket.level = level - 1.0
        bucket.unreported += 1
        if bucket.unreported >= self._share and len(self._due) < self._owners_max:
            self._due[owner] = bucket
        return bucket

    def _refusal(self, bucket: Bucket) -> ServiceError:
        quota = self.quota
        self._refused.add(quota.name)
        refusal = HttpRefusal(
            Reason.RATE_LIMITED,
            f"At most {quota.requests_max} requests in {quota.window_seconds} s for each {quota.name}",
            headers=(("RateLimit-Policy", quota.policy), ("RateLimit", self.state(bucket))),
        )
        refusal.retry_after_seconds = (1.0 - bucket.level) / self._rate
        return refusal

    def state(self, bucket: Bucket) -> str:
        """The item of `RateLimit`: what is left, and when the whole quota is back."""
        level = bucket.level
        seconds = math.ceil((self._size - level) / self._rate)
        return f'"{self._name}";r={int(level) if level > 0.0 else 0};t={seconds}'

    def due(self, number_max: int) -> list[tuple[str, Bucket]]:
        """Buckets that are to be reported; they are not due any more."""
        found = list(islice(self._due.items(), number_max))
        for owner, _ in found:
            del self._due[owner]
        return found

    def learn(self, bucket: Bucket, reported: int, count: int) -> None:
        """Takes from a bucket what other gateways have given out since its last report.

        Args:
            bucket: the owner's bucket.
            reported: what this gateway has added.
            count: the shared count after that; it begins again at 0 when it has expired.
        """
        others = count - reported - bucket.seen
        if others < 0:
            others = count - reported
        bucket.seen = count
        bucket.level = max(bucket.level - others, -self._size)

    def _remember(self, owner: str, now: float) -> Bucket:
        bucket = self._old.pop(owner, None) or Bucket(self._size, now)
        if len(self._young) >= self._generation_max:
            self._old, self._young = self._young, {}
        self._young[owner] = bucket
        return bucket


class RateLimits:
    """The limits of users and of addresses.

    Args:
        user: the quota of one user; None for no limit.
        address: the quota of one address; None for no limit. Behind a proxy, see gateway/client_address.py.
        counts: what the gateways share; None if each counts alone.
    """

    def __init__(
        self,
        *,
        user: Quota | None,
        address: Quota | None,
        counts: SharedCounts | None,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        owners_max: int = OWNERS_MAX,
    ) -> None:
        refused = metrics.counter(
            "rate_limited", "Requests that were refused because their owner asks too often.", ("quota",)
        )

        def limiter_of(quota: Quota | None) -> Limiter | None:
            if quota is None:
                return None
            return Limiter(quota, clock=clock, refused=refused, owners_max=owners_max)

        self._user = limiter_of(user)
        self._address = limiter_of(address)
        self._limiters = [each for each in (self._user, self._address) if each is not None]
        policies = ", ".join(limiter.quota.policy for limiter in self._limiters)
        self._policy_line = f"RateLimit-Policy: {policies}\r\n"
        self._counts = counts
        self._sharing = True
        metrics.gauge(
            "rate_limits_shared",
            "1 while the rate limits are counted together with the other gateways, through Redis.",
            lambda: float(counts is not None and self._sharing),
        )
        metrics.gauge(
            "rate_limited_owners",
            "Users and addresses whose requests are counted.",
            lambda: float(sum(map(len, self._limiters))),
        )

    def take_address(self, address: str) -> None:
        """Counts a request of an address. Raises ServiceError: RATE_LIMITED."""
        if self._address is not None:
            self._address.take(address)

    def take_user(self, user_id: str) -> str:
        """Counts a request of a user; returns the header lines for the answer.

        Raises:
            ServiceError: RATE_LIMITED.
        """
        if self._user is None:
            return ""
        bucket = self._user.take(user_id)
        return f"{self._policy_line}RateLimit: {self._user.state(bucket)}\r\n"

    async def sync(self) -> float | None:
        """A round of background work: reports buckets to Redis. Returns the pause after a failure."""
        if self._counts is None:
            return None
        due = [
            (limiter, owner, bucket)
            for limiter in self._limiters
            for owner, bucket in limiter.due(REPORTS_PER_SYNC_MAX)
        ]
        if not due:
            return None
        try:
            async with asyncio.timeout(SYNC_SECONDS_MAX):
                await asyncio.gather(*(self._report(self._counts, *each) for each in due))
        except Exception as error:  # noqa: BLE001 — whatever ails Redis, each gateway goes on alone
            if self._sharing:
                log.warning("rate_limits_not_shared", problem=type(error).__name__)
            self._sharing = False
            return PAUSE_SECONDS
        if not self._sharing:
            log.info("rate_limits_shared_again")
        self._sharing = True
        return None

    async def _report(self, counts: SharedCounts, limiter: Limiter, owner: str, bucket: Bucket) -> None:
        amount, bucket.unreported = bucket.unreported, 0
        digest = hashlib.blake2b(owner.encode(), digest_size=16).hexdigest()
        key = f"{limiter.quota.name}:{digest}"
        count = await counts.add(key, amount, expiry_seconds=limiter.quota.window_seconds)
        limiter.learn(bucket, amount, count)
