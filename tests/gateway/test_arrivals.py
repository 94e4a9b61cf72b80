"""Connections that have not sent the head of a request: they cost little, and lose nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.arrivals import Arrival
from gateway.connections import Connection, ConnectionLimits
from gateway.plain_requests import HEAD_BYTES_MAX
from tests.gateway.backend import Backend
from tests.gateway.crowds import crowd, head, status_of
from tests.gateway.running import Gateway, running_gateway
from tests.support.waiting import eventually

BODY = b'{"testId": "t"}'


def kinds_of(gateway: Gateway) -> set[type]:
    return {type(each) for each in gateway.parts.listener._connections._open}


async def test_a_connection_has_no_parser_before_a_head_is_there(backend: Backend, gateway: Gateway) -> None:
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity) as made:
        beginning, end = head(made, method="GET", path="/v1/stats").split(b"Authorization")
        async with crowd(made, 30, beginning) as slow:
            connections = made.parts.listener._connections._open
            await eventually(lambda: len(connections) == 30 and all(each._received for each in connections))
            assert kinds_of(made) == {Arrival}
            for _, writer in slow.streams:
                writer.write(b"Authorization" + end)
            assert await slow.statuses() == [200] * 30
            assert kinds_of(made) == {Connection}
            assert len(connections) == 30
        await eventually(lambda: not connections)


async def test_a_request_may_arrive_byte_by_byte(gateway: Gateway, backend: Backend) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for byte in head(gateway, length=len(BODY)) + BODY:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert await status_of(reader) == 201
    assert backend.only_item.request.test_id == "t"
    writer.close()


async def test_a_head_that_began_slowly_has_no_more_time_because_it_goes_on(
    backend: Backend, gateway: Gateway
) -> None:
    """The time begins with the connection, also if the parser takes over in the middle of the head."""
    async with running_gateway(
        upstream_port=backend.port,
        identity=gateway.identity,
        connection_limits=ConnectionLimits(head_seconds_max=3600.0),
    ) as made:
        connections = made.parts.listener._connections._open
        async with crowd(made, 1, b"GET /v1/stats HTTP/1.1\r\nHost: x\r\n") as one:
            await eventually(lambda: connections)
            (arrival,) = connections
            since = arrival._since
            ((_, writer),) = one.streams
            writer.write(b"X-A: " + b"a" * HEAD_BYTES_MAX)
            await eventually(lambda: kinds_of(made) == {Connection})
            (connection,) = connections
            assert connection._head_since == since
            assert connection.overdue(since + 3601.0) == "headers_too_slow"


async def test_stopping_does_not_wait_for_a_head(backend: Backend, gateway: Gateway) -> None:
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity) as made:
        async with crowd(made, 5, b"GET /v1/sta") as slow:
            connections = made.parts.listener._connections._open
            await eventually(lambda: len(connections) == 5)
            async with asyncio.timeout(4):
                await made.parts.listener.stop()
            with suppress(ConnectionError):
                assert await slow.statuses() == [0] * 5
        assert not connections
