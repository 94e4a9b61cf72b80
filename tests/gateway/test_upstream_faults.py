"""One service fails entirely: what it is still asked, and what its neighbours notice of it."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway, running_gateway

OFFERED = 600
AT_ONCE = 30
# What a client may send again before it has earned it (chassis.rpc.retries).
BURST = 20
NEIGHBOURS = ("/v1/stats", "/v1/entitlements", "/v1/credits/entries")


@pytest.fixture
async def failing() -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start()
    yield backend
    await backend.stop()


@asynccontextmanager
async def with_session_service_at(port: int, gateway: Gateway, backend: Backend) -> AsyncIterator[Gateway]:
    ports = {"session": port, "subscription": backend.port, "progress": backend.port}
    async with running_gateway(upstream_port=ports, identity=gateway.identity) as made:
        yield made


async def offer(made: Gateway) -> tuple[Tally[int], Tally[int]]:
    """Starts and requests to the neighbours side by side; the statuses of both."""
    starts: Tally[int] = Tally()
    neighbours: Tally[int] = Tally()

    async def worker(first: int) -> None:
        for number in range(first, OFFERED, AT_ONCE):
            started = await made.request("POST", "/v1/sessions", key=f"k{number}", body={"testId": "t"})
            starts[started.status] += 1
            assert started.status == 201 or int(started.headers["Retry-After"]) >= 1
            answer = await made.request("GET", NEIGHBOURS[number % len(NEIGHBOURS)])
            neighbours[answer.status] += 1

    await asyncio.gather(*(worker(first) for first in range(AT_ONCE)))
    return starts, neighbours


async def retries_of(made: Gateway) -> float:
    """How often calls were sent again."""
    page = await made.metrics()
    lines = (line for line in page.splitlines() if line.startswith("homeroom_upstream_retries_total{"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def test_a_service_that_refuses_everything_is_asked_little_more_than_what_is_offered(
    gateway: Gateway, backend: Backend, failing: Backend
) -> None:
    def unavailable(_: Item[Any]) -> ServiceError:
        return ServiceError(Reason.UNAVAILABLE, retry_after_seconds=0.01)

    failing.answers["CreateSession"] = unavailable
    async with with_session_service_at(failing.port, gateway, backend) as made:
        starts, neighbours = await offer(made)
        assert starts == {503: OFFERED}
        assert neighbours == {200: OFFERED}
        assert OFFERED < len(failing.items) <= OFFERED * 1.1 + BURST
        assert len(failing.items) == OFFERED + await retries_of(made)
        failing.reset()
        assert await offer(made) == ({201: OFFERED}, {200: OFFERED})


async def test_a_service_that_is_gone_costs_its_neighbours_nothing(
    gateway: Gateway, backend: Backend
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, and nobody listens
        async with with_session_service_at(unused.getsockname()[1], gateway, backend) as made:
            starts, neighbours = await offer(made)
            assert starts == {503: OFFERED}
            assert neighbours == {200: OFFERED}
            assert await retries_of(made) <= OFFERED * 0.1 + BURST
            page = await made.metrics()
    shown = 'homeroom_upstream_breaker_state{method="",upstream="%s"} %s'
    assert shown % ("session_service", "0.0") not in page
    assert shown % ("progress_service", "0.0") in page
