"""A crowded gateway refuses before it parses, with the same answers."""

from __future__ import annotations

import asyncio

import pytest

from gateway.admission import Limits
from gateway.connections import Connection
from gateway.overload import RoomLimits
from gateway.rate_limits import Quota, RateLimits
from tests.gateway.backend import Backend
from tests.gateway.crowds import counted
from tests.gateway.quick_refusals.lines import (
    PAGE,
    ROOM,
    full,
    get,
    line,
    only_the_application,
    quick_ones,
    same,
    start,
)
from tests.gateway.running import Answer, Gateway, running_gateway
from tests.support.waiting import eventually

LIST = "/homeroom.session.v1.SessionService/ListSessions"


@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("/v1/sessions?pageSize=5", ""),
        ("/v1/sessions/s-1", "X-Request-Id: a.b-c:1\r\n"),
        ("/v1/sessions/%C3%A4%22", "X-Request-Id: not allowed\r\n"),
        ("/v1/sessions", f"Origin: {PAGE}\r\n"),
        ("/v1/sessions", "Origin: https://elsewhere.example.org\r\nConnection: Keep-Alive\r\n"),
        ("/v1/sessions", "x-request-id:   r1 \t\r\nAccept: */*\r\n"),
        ("/v1/sessions?a=%25b%s", "X-Empty:\r\n"),
        ("/v1/sessions/50%25", ""),
    ],
)
async def test_a_quick_refusal_is_the_one_of_the_application(
    crowded: Gateway, target: str, more: str
) -> None:
    request = get(crowded, target, more)
    async with line(crowded) as one:
        with quick_ones() as targets:
            quick = await one.ask(request)
            again = await one.ask(request)
        with only_the_application():
            slow = await one.ask(request)
    assert targets == [target] * 2
    assert same(quick) == same(again) == same(slow)
    assert quick.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b'"reason":"OVERLOADED"' in quick
    assert b"Connection:" not in quick


async def test_a_request_with_a_body_is_refused_quickly_and_the_next_one_on_its_connection_is_served(
    crowded: Gateway, backend: Backend
) -> None:
    async with line(crowded) as one:
        with quick_ones() as targets:
            answers = [await one.ask(start(crowded)) for _ in range(3)]
        assert len(targets) == 3
        with only_the_application():
            assert {same(each) for each in answers} == {same(await one.ask(start(crowded)))}
        backend.gate.set()
        await eventually(lambda: crowded.parts.admission.in_flight == 0)
        assert (await one.ask(start(crowded))).startswith(b"HTTP/1.1 201 Created\r\n")
        assert (await one.ask(get(crowded))).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_quick_refusals_are_counted_and_logged_like_all_others(
    crowded: Gateway, capfd: pytest.CaptureFixture[str]
) -> None:
    async def counts() -> tuple[float, float]:
        return (
            await counted(crowded, "call_seconds_count", method=LIST, code="OVERLOADED"),
            await counted(crowded, "requests_shed_total", priority="low", cause="queue_full"),
        )

    calls, shed = await counts()
    capfd.readouterr()
    async with line(crowded) as one:
        with quick_ones() as targets:
            for _ in range(3):
                await one.ask(get(crowded, more="X-Request-Id: told-in-the-log\r\n"))
        assert len(targets) == 3
    assert await counts() == (calls + 3, shed + 3)
    told = capfd.readouterr().out
    assert told.count("request_answered") == 3
    assert told.count("told-in-the-log") == 3
    assert "OVERLOADED" in told
    assert LIST in told


async def test_completions_are_served_beside_a_rude_flood(backend: Backend, gateway: Gateway) -> None:
    """Fifty connections never stop asking: they are told when to come again, and completions are answered."""
    limits = Limits(room=RoomLimits(in_flight_max=40, method_share=1.0, waiting_max=0))
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity, limits=limits) as made:
        backend.gate.clear()
        asked = [
            asyncio.create_task(
                made.request("GET", f"/v1/sessions/{n}", token=made.identity.token(f"u{n}"), key=None)
            )
            for n in range(40)
        ]
        await eventually(lambda: made.parts.admission.in_flight == 40)
        refused: list[Answer] = []
        stopped = asyncio.Event()

        async def flood() -> None:
            async with line(made) as one:
                while not stopped.is_set():
                    for request in (get(made), start(made)):
                        told = await one.ask(request)
                        lines, _, body = told.partition(b"\r\n\r\n")
                        headers = dict(each.split(": ", 1) for each in lines.decode().split("\r\n")[1:])
                        refused.append(Answer(int(told[9:12]), headers, body))

        floods = [asyncio.create_task(flood()) for _ in range(50)]
        await eventually(lambda: len(refused) > 200)
        for n in range(8):
            completing = asyncio.create_task(made.request("POST", f"/v1/sessions/c{n}:complete"))
            await eventually(lambda n=n: made.parts.admission.in_flight == 41 + n)
            asked.append(completing)
        before = len(refused)
        await eventually(lambda: len(refused) > before + 200)
        stopped.set()
        await asyncio.gather(*floods)
        for each in refused:
            assert (each.status, each.reason) == (503, "OVERLOADED")
            assert each.headers["Retry-After"] in {"1", "2", "3"}
            assert each.headers["Cache-Control"] == "no-store"
        backend.gate.set()
        assert [(await each).status for each in asked] == [200] * 48
        await eventually(lambda: made.parts.admission.in_flight == 0)


async def test_a_burst_in_one_turn_of_the_loop_does_not_get_past_the_count(
    backend: Backend, gateway: Gateway
) -> None:
    """A hundred requests arrive before the first of them is counted as in flight."""
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity, limits=ROOM) as made:
        backend.gate.clear()
        coming = made.parts.admission.coming
        for _ in range(100):
            coming.add()
        crowded = [made.parts.admission.crowded]
        for _ in range(3):
            await asyncio.sleep(0)
        crowded.append(made.parts.admission.crowded)
        assert crowded == [True, False]
        assert coming.count == 0
        backend.gate.set()


async def test_an_address_that_asks_too_often_is_told_so_first(backend: Backend, gateway: Gateway) -> None:
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity) as other:
        limits = RateLimits(
            user=None, address=Quota("address", 8, 3600), counts=None, metrics=other.parts.metrics
        )
        async with full(backend, gateway, rate_limits=limits) as made, line(made) as one:
            with quick_ones() as targets:
                statuses = [(await one.ask(get(made)))[9:12] for _ in range(6)]
            assert statuses == [b"503"] * 4 + [b"429"] * 2
            assert len(targets) == 4


async def test_a_proxy_tells_whose_request_is_refused(backend: Backend, gateway: Gateway) -> None:
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity) as other:
        limits = RateLimits(
            user=None, address=Quota("address", 8, 3600), counts=None, metrics=other.parts.metrics
        )
        async with full(backend, gateway, rate_limits=limits, proxies=["127.0.0.0/8"]) as made:
            statuses = []
            async with line(made) as one:
                for n in range(10):
                    more = f"X-Forwarded-For: 192.0.2.{n}\r\n"
                    statuses.append((await one.ask(get(made, more=more)))[9:12])
            assert statuses == [b"503"] * 10


async def test_a_gateway_that_stops_closes_connections_after_refusals_too(crowded: Gateway) -> None:
    async with line(crowded) as one:
        await one.ask(get(crowded))
        crowded.parts.health.drain()
        assert b"Connection: close\r\n" in await one.ask(get(crowded))
        assert await one.rest() == b""


async def test_a_refused_request_keeps_its_connection_from_being_idle(crowded: Gateway) -> None:
    async with line(crowded) as one:
        await one.ask(get(crowded))
        (connection,) = [
            each
            for each in crowded.parts.listener._connections._open
            if isinstance(each, Connection) and each._request_count == 0
        ]
        before = connection._next_keepalive_close_time
        await one.ask(get(crowded))
        assert connection._next_keepalive_close_time > before
        assert not connection.overdue(connection._loop.time() + 3600)


async def test_a_client_that_does_not_read_its_refusals_is_cut_off(crowded: Gateway) -> None:
    async with line(crowded) as one:
        await one.ask(get(crowded))
        (connection,) = [
            each
            for each in crowded.parts.listener._connections._open
            if isinstance(each, Connection) and each._request_count == 0
        ]
        connection.pause_writing()
        with quick_ones() as targets:
            assert b"OVERLOADED" in await one.ask(get(crowded))
        assert not targets
        connection.resume_writing()
