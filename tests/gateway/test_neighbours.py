"""One misbehaving client beside sixty normal ones: their answers do not change."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chassis.batch import Item, Reply
from gateway.admission import Limits
from gateway.connections import Connection, ConnectionLimits
from gateway.networks import address_of
from protos.session.v1 import sessions_pb2
from tests.gateway.backend import Backend
from tests.gateway.crowds import START, assert_polite_are_served, counted, crowd, head, status_of
from tests.gateway.running import Gateway, running_gateway
from tests.support.waiting import eventually

# Each connection takes a descriptor at both ends, and both are in this process.
RUDE = min(4150, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 400)
LARGE = 1024 * 1024


@asynccontextmanager
async def gateway_with(backend: Backend, gateway: Gateway, **options: Any) -> AsyncIterator[Gateway]:
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity, **options) as made:
        yield made


def connections_of(gateway: Gateway) -> list[Connection]:
    """Those that have sent the head of a request."""
    return [each for each in gateway.parts.listener._connections._open if isinstance(each, Connection)]


def answer_much(backend: Backend) -> None:
    session = sessions_pb2.Session(session_id="s1", title="x" * LARGE)
    backend.answers["GetSession"] = lambda _item: Reply(sessions_pb2.GetSessionResponse(session=session))


async def test_bodies_that_never_arrive_limit_only_their_sender(gateway: Gateway, backend: Backend) -> None:
    async with gateway_with(backend, gateway, body_seconds_max=60.0) as made:
        text = head(made, "rude", length=5000, more="Request-Timeout: 60\r\n") + b'{"testId"'
        async with crowd(made, RUDE, text):
            await assert_polite_are_served(made, backend)

            async def refused() -> bool:
                return (
                    await counted(made, "call_seconds_count", code="RATE_LIMITED", method=START) == RUDE - 32
                )

            await eventually(refused, seconds=60)
            assert made.parts.admission.in_flight == 0
            await assert_polite_are_served(made, backend)
            assert not [item for item in backend.items if item.user_id == "rude"]
        await eventually(lambda: not made.parts.admission._bodies._counts)
        assert made.parts.admission._received_bytes == 0


async def test_a_body_has_a_time_limit_of_its_own(gateway: Gateway, backend: Backend) -> None:
    async with gateway_with(backend, gateway, body_seconds_max=0.2) as made:
        text = head(made, length=20, more="Request-Timeout: 60\r\nConnection: close\r\n")
        answer = await made.raw(text + b'{"testId"')
        assert b"did not arrive within 0.2 s" in answer
    assert not backend.items


async def test_the_size_of_all_bodies_together_has_a_limit(gateway: Gateway, backend: Backend) -> None:
    async with gateway_with(backend, gateway, limits=Limits(received_bytes_max=100_000)) as made:
        text = head(made, "rude", length=60_000) + b" " * 50_000
        async with crowd(made, 1, text), crowd(made, 1, head(made, "also-rude", length=60_000)) as second:
            await eventually(lambda: made.parts.admission._received_bytes >= 50_000)
            ((reader, writer),) = second.streams
            writer.write(b" " * 55_000)
            assert await status_of(reader) == 503
            await assert_polite_are_served(made, backend)
        await eventually(lambda: made.parts.admission._received_bytes == 0)


async def test_slow_headers_close_only_their_own_connection(gateway: Gateway, backend: Backend) -> None:
    limits = ConnectionLimits(head_seconds_max=1.0)
    async with gateway_with(backend, gateway, connection_limits=limits) as made:
        async with crowd(made, 1000, b"GET /v1/stats HTTP/1.1\r\nHost: x\r\nX-Slow: ") as slow:
            await assert_polite_are_served(made, backend)
            async with asyncio.timeout(30):
                assert set(await slow.statuses()) == {0}
        assert await counted(made, "connections_ended_total", reason="headers_too_slow") == 1000
        assert await counted(made, "connections_ended_total", reason="answer_not_read") == 0


async def test_the_headers_of_a_later_request_may_not_come_slowly_either(
    gateway: Gateway, backend: Backend
) -> None:
    limits = ConnectionLimits(head_seconds_max=1.0)
    async with gateway_with(backend, gateway, connection_limits=limits) as made:
        first = head(made, method="GET", path="/v1/stats")
        async with crowd(made, 2, first) as both, asyncio.timeout(20):
            (silent, _), (slow, writer) = both.streams
            for reader in (silent, slow):
                await reader.readuntil(b"\r\n\r\n")
            writer.write(b"GET /v1/stats HTTP/1.1\r\nX-Slow: ")
            await slow.read()
            assert not silent.at_eof()  # a connection that is only idle may stay
            assert len(connections_of(made)) == 1
    assert len(backend.items) == 2


async def test_headers_have_a_size_limit_together(gateway: Gateway, backend: Backend) -> None:
    text = b"GET /v1/stats HTTP/1.1\r\nHost: x\r\n" + (b"X-Many: " + b"x" * 4000 + b"\r\n") * 12
    async with crowd(gateway, 1, text) as one, asyncio.timeout(5):
        assert await one.statuses() == [0]
    assert not backend.items


async def test_an_answer_that_is_never_read_closes_only_its_own_connection(
    gateway: Gateway, backend: Backend
) -> None:
    answer_much(backend)
    limits = ConnectionLimits(unread_seconds_max=1.0)
    async with gateway_with(backend, gateway, connection_limits=limits) as made:
        # The system's own buffers take some of the answers before ours do.
        text = head(made, "rude", method="GET", path="/v1/sessions/s1") * 25
        async with crowd(made, 100, text) as rude:
            await assert_polite_are_served(made, backend)

            async def all_cut_off() -> bool:
                ended = await counted(made, "connections_ended_total", reason="answer_not_read")
                return ended == 100

            await eventually(all_cut_off, seconds=60)
            await eventually(lambda: made.parts.admission.in_flight == 0)
            async with asyncio.timeout(30):
                assert sum([await _read_all(reader) for reader, _ in rude.streams]) < 100 * 25 * LARGE
        await assert_polite_are_served(made, backend)


async def _read_all(reader: asyncio.StreamReader) -> int:
    size = 0
    try:
        while data := await reader.read(LARGE):
            size += len(data)
    except ConnectionError:
        pass
    return size


def _unread(connection: Connection) -> int:
    return connection._wire.get_write_buffer_size()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """The status line of the next answer."""
    answer = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(answer.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
    return answer.splitlines()[0]


async def test_a_body_that_comes_right_behind_its_headers_is_not_taken_for_headers(
    gateway: Gateway, backend: Backend
) -> None:
    """uvloop reads several times before it runs the task that waits for the headers."""
    body = b'{"testId": "t"}' + b" " * 60_000
    async with (
        gateway_with(backend, gateway) as made,
        crowd(made, 1, head(made, method="GET", path="/v1/stats")) as one,
    ):
        ((reader, _),) = one.streams
        await _answer(reader)
        (connection,) = connections_of(made)
        for _ in range(2):
            await eventually(lambda: connection._waiter is not None)
            connection.data_received(head(made, length=len(body)))
            for piece in (body[:30_000], body[30_000:]):
                connection.data_received(piece)
            assert b" 201 " in await _answer(reader)


async def test_the_memory_for_one_connection_has_a_limit(gateway: Gateway, backend: Backend) -> None:
    answer_much(backend)
    async with gateway_with(backend, gateway) as made:
        text = head(made, "rude", method="GET", path="/v1/sessions/s1") * 200
        async with crowd(made, 1, text):
            (connection,) = await eventually(lambda: connections_of(made))
            await eventually(lambda: connection.writing_paused, seconds=30)
            await assert_polite_are_served(made, backend)
            assert connection.writing_paused
            assert _unread(connection) <= 2 * LARGE
            assert len([item for item in backend.items if item.user_id == "rude"]) < 100


async def test_a_client_that_reads_slowly_but_reads_is_not_cut_off(
    gateway: Gateway, backend: Backend
) -> None:
    answer_much(backend)
    async with gateway_with(backend, gateway) as made:
        text = head(made, method="GET", path="/v1/sessions/s1") * 25
        async with crowd(made, 1, text) as one:
            (connection,) = await eventually(lambda: connections_of(made))
            await eventually(lambda: connection.writing_paused, seconds=30)
            ((reader, _),) = one.streams
            limit = made.parts.listener._connections.limits.unread_seconds_max

            def would_be_cut_off() -> bool:
                now = time.monotonic()
                connection._unread_since = min(connection._unread_since, now)
                return connection.overdue(now + limit + 1.0) == "answer_not_read"

            for _ in range(3):
                await eventually(would_be_cut_off)
                drained = connection.sent_bytes - _unread(connection)
                while connection.sent_bytes - _unread(connection) == drained:
                    await reader.read(LARGE)
                assert not would_be_cut_off()


async def test_one_learner_is_limited_and_its_neighbours_are_not(gateway: Gateway, backend: Backend) -> None:
    async with gateway_with(backend, gateway, limits=Limits(in_flight_per_learner_max=4)) as made:
        backend.gate.clear()
        waiting = [asyncio.create_task(made.request("GET", "/v1/stats")) for _ in range(4)]
        await eventually(lambda: made.parts.admission.in_flight == 4)
        refused = await made.request("GET", "/v1/stats")
        assert (refused.status, refused.reason) == (429, "RATE_LIMITED")
        assert refused.headers["Retry-After"] == "1"
        assert refused.json()["retryable"]
        backend.gate.set()
        assert [(await each).status for each in waiting] == [200] * 4
        await assert_polite_are_served(made, backend)
        assert (await made.request("GET", "/v1/stats")).status == 200
        await eventually(lambda: made.parts.admission.in_flight == 0)


async def test_one_address_is_limited(gateway: Gateway, backend: Backend) -> None:
    async with gateway_with(backend, gateway, limits=Limits(in_flight_per_address_max=2)) as made:
        backend.gate.clear()
        tokens = [made.identity.token(f"u{number}") for number in range(3)]
        waiting = [asyncio.create_task(made.request("GET", "/v1/stats", token=token)) for token in tokens[:2]]
        await eventually(lambda: made.parts.admission.in_flight == 2)
        refused = await made.request("GET", "/v1/stats", token=tokens[2])
        assert (refused.status, refused.reason) == (429, "RATE_LIMITED")
        backend.gate.set()
        assert [(await each).status for each in waiting] == [200] * 2


@pytest.mark.parametrize("limits", [{"connections_max": 5}, {"connections_per_address_max": 5}], ids=str)
async def test_a_connection_above_the_limit_gets_a_refusal(
    gateway: Gateway, backend: Backend, limits: dict[str, int]
) -> None:
    async with gateway_with(backend, gateway, connection_limits=ConnectionLimits(**limits)) as made:
        text = head(made, method="GET", path="/v1/stats")
        async with crowd(made, 5, text) as first:
            assert await first.statuses() == [200] * 5
            answer = await made.raw(b"")
            assert answer.startswith(b"HTTP/1.1 503")
            assert b'"reason":"OVERLOADED"' in answer
            assert b"Retry-After: 1" in answer
        await eventually(lambda: not connections_of(made))
        async with crowd(made, 5, text) as second:
            assert await second.statuses() == [200] * 5
    assert len(backend.items) == 10


async def test_a_client_that_leaves_while_it_sends_is_counted_quietly(
    gateway: Gateway, backend: Backend, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with gateway_with(backend, gateway) as made:
        async with crowd(made, 200, head(made, length=5000, more="Request-Timeout: 60\r\n") + b"{"):
            await eventually(lambda: made.parts.admission._bodies._counts.get("ada") == 32)

        async def cancelled() -> bool:
            found = await counted(made, "call_seconds_count", code="CANCELLED", method=START)
            refused = await counted(made, "call_seconds_count", code="RATE_LIMITED", method=START)
            return found >= 32 and found + refused == 200

        await eventually(cancelled)
        assert await counted(made, "internal_errors_total", method=START) == 0
    assert not backend.items
    written = capfdbinary.readouterr().out
    assert b"request_failed" not in written
    assert b"Traceback" not in written


async def test_a_client_that_leaves_before_the_answer_is_counted_quietly(
    gateway: Gateway, backend: Backend, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    done: list[Item[Any]] = []

    def finish(item: Item[Any]) -> Reply[Any]:
        done.append(item)
        return Reply(sessions_pb2.CreateSessionResponse())

    backend.answers["CreateSession"] = finish
    async with gateway_with(backend, gateway) as made:
        backend.gate.clear()
        body = b'{"testId": "t"}'
        async with crowd(made, 20, head(made, length=len(body)) + body):
            await eventually(lambda: made.parts.admission.in_flight == 20)
        backend.gate.set()

        async def cancelled() -> bool:
            return await counted(made, "call_seconds_count", code="CANCELLED", method=START) == 20

        await eventually(cancelled)
        await eventually(lambda: made.parts.admission.in_flight == 0)
    assert len(done) == 20
    written = capfdbinary.readouterr().out
    assert b"request_failed" not in written
    assert b"Traceback" not in written


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (("::ffff:192.0.2.7", 5, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::"),
        (("2001:db8:1:2:ffff::1", 5, 0, 0), "2001:db8:1:2::"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_attacker_with_a_network_of_addresses_counts_as_one(peername: object, address: str) -> None:
    assert address_of(peername) == address
