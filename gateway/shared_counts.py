"""The counts of the rate limits in Redis, with the storage of the `limits` library."""

from __future__ import annotations

from limits.aio.storage import RedisStorage
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

KEY_PREFIX = "homeroom-rate"
CONNECTIONS_MAX = 4
# Redis answers in well under a millisecond. Without an answer in time, each gateway counts alone.
TIMEOUT_SECONDS = 0.2


class RedisCounts:
    """Counts in Redis. A method raises an exception of redis-py when Redis does not answer in time.

    Args:
        url: as redis-py knows it: redis://, rediss:// or unix://.
    """

    def __init__(self, url: str) -> None:
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=KEY_PREFIX,
            connection_pool=self._pool,  # type: ignore[arg-type] # the stub lists only scalar options
        )

    async def add(self, key: str, amount: int, *, expiry_seconds: int) -> int:
        """Adds to a count, which expires this long after its first addition; returns the sum."""
        return await self._storage.incr(key, expiry_seconds, amount)

    async def close(self) -> None:
        await self._pool.disconnect()
