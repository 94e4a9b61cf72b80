"""What a Redis says of itself, for a check of the environment."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

PINGS = 5


class RedisFacts(NamedTuple):
    """Sizes are in bytes; a maximum of 0 is none."""

    latency_ms: float
    version: str
    role: str
    policy: str
    memory_used: int
    memory_max: int
    evicted_keys: int
    background_save_failed: bool


async def inspect(url: str, seconds_max: float) -> RedisFacts:
    """Ask the Redis at this address; INFO is enough, because providers forbid CONFIG.

    Raises an exception of redis-py, OSError or ValueError if it does not answer.
    """
    client = redis.asyncio.Redis.from_url(
        url,
        socket_connect_timeout=seconds_max,
        socket_timeout=seconds_max,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
        decode_responses=True,
    )
    try:
        info: dict[str, Any] = await client.info()
        latencies = []
        for _ in range(PINGS):
            began = time.perf_counter()
            await client.ping()
            latencies.append(time.perf_counter() - began)
    finally:
        await client.aclose()
    return RedisFacts(
        latency_ms=sorted(latencies)[PINGS // 2] * 1000,
        version=str(info.get("redis_version", "")),
        role=str(info.get("role", "")),
        policy=str(info.get("maxmemory_policy", "")),
        memory_used=int(info.get("used_memory", 0)),
        memory_max=int(info.get("maxmemory", 0)),
        evicted_keys=int(info.get("evicted_keys", 0)),
        background_save_failed=info.get("rdb_last_bgsave_status") == "err",
    )
