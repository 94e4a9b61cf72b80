"""Clients that use connections as no library would: many at once, half-sent, never read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.gateway.backend import Backend
from tests.gateway.running import Gateway

POLITE = 60
START = "/homeroom.session.v1.SessionService/CreateSession"
STATS = "/homeroom.progress.v1.StatisticsService/GetStats"


def head(
    gateway: Gateway,
    user: str = "ada",
    *,
    method: str = "POST",
    path: str = "/v1/sessions",
    length: int | None = None,
    more: str = "",
) -> bytes:
    """The headers of a request."""
    content = "" if length is None else f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n"
        f"Authorization: Bearer {gateway.identity.token(user)}\r\n{content}{more}\r\n"
    ).encode()


@dataclass
class Crowd:
    """Many connections of one client."""

    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]

    async def statuses(self) -> list[int]:
        """The status of each connection's answer; 0 for those that were closed without one."""
        return list(await asyncio.gather(*(status_of(reader) for reader, _ in self.streams)))


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of the next answer; 0 when the connection was closed without one."""
    try:
        line = await reader.readline()
    except ConnectionError:
        return 0
    return int(line.split(b" ")[1]) if line else 0


@asynccontextmanager
async def crowd(gateway: Gateway, size: int, text: bytes) -> AsyncIterator[Crowd]:
    """Opens connections, and sends the same on each; a small window, so that little is read unasked."""
    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    try:
        for at in range(0, size, 100):
            opened = await asyncio.gather(
                *(
                    asyncio.open_connection("127.0.0.1", gateway.port, limit=4096)
                    for _ in range(min(100, size - at))
                )
            )
            streams += opened
            for _, writer in opened:
                writer.write(text)
        yield Crowd(streams)
    finally:
        for _, writer in streams:
            writer.transport.abort()


async def assert_polite_are_served(gateway: Gateway, backend: Backend) -> None:
    """Each of sixty learners reads, starts, and starts with a body that comes in two packets."""

    async def ask(number: int) -> None:
        user = f"polite-{number}"
        token = gateway.identity.token(user)
        stats = await gateway.request("GET", "/v1/stats", token=token)
        assert stats.status == 200, stats.body
        started = await gateway.request(
            "POST", "/v1/sessions", token=token, body={"testId": "t", "title": user}
        )
        assert started.status == 201, started.body
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = b'{"testId": "t"}'
        writer.write(head(gateway, user, length=len(body), more="Connection: close\r\n"))
        await writer.drain()
        writer.write(body)
        assert await status_of(reader) == 201
        writer.close()

    users = {f"polite-{number}" for number in range(POLITE)}
    backend.items[:] = [item for item in backend.items if item.user_id not in users]
    async with asyncio.timeout(60):
        await asyncio.gather(*(ask(number) for number in range(POLITE)))
    assert len([item for item in backend.items if item.user_id in users]) == 3 * POLITE


async def counted(gateway: Gateway, metric: str, **labels: str) -> float:
    """A number of the metrics page; 0 when it is not there."""
    named = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    start = f"homeroom_{metric}{{{named}}} " if labels else f"homeroom_{metric} "
    for line in (await gateway.metrics()).splitlines():
        if line.startswith(start):
            return float(line.removeprefix(start))
    return 0.0
