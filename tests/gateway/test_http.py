"""HTTP as such: ids, headers, methods, limits, connections, and the pages for supervisors."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import orjson
import pytest
from aiohttp import web

from chassis.batch import Item, Reply
from gateway.admission import Limits
from gateway.answers import HttpResponse
from gateway.connections import ConnectionLimits
from gateway.overload import RoomLimits
from protos.session.v1 import sessions_pb2
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway, running_gateway
from tests.support.waiting import eventually


def request_text(gateway: Gateway, *, method: str = "GET", path: str = "/v1/stats", more: str = "") -> bytes:
    token = gateway.identity.token()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
    return head.encode("latin-1")


def problem_in(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    told: dict[str, Any] = orjson.loads(body)
    assert f"X-Request-Id: {told['requestId']}".encode() in head
    return told


async def test_a_sane_request_id_is_kept_and_passed_on(gateway: Gateway, backend: Backend) -> None:
    for request_id in ("r1", "0af7651916cd43dd8448eb211c80319c", "a.b-c_d:e/f+g=h@i", "x" * 128):
        answer = await gateway.request("GET", "/v1/stats", headers={"X-Request-Id": request_id})
        assert answer.headers["X-Request-Id"] == request_id
        assert backend.items[-1].context.request_id == request_id


async def test_an_odd_request_id_is_replaced(gateway: Gateway, backend: Backend) -> None:
    made = set()
    for request_id in (None, "", "a b", "x" * 129, '"r1"', "<script>", "é", "-r1"):
        headers = {} if request_id is None else {"X-Request-Id": request_id}
        answer = await gateway.request("GET", "/v1/stats", headers=headers)
        made.add(answer.headers["X-Request-Id"])
        assert backend.items[-1].context.request_id == answer.headers["X-Request-Id"]
    assert len(made) == 8
    assert all(len(request_id) == 32 for request_id in made)


@pytest.mark.parametrize("path", ["/v1/stats", "/v1/nothing", "/livez"])
async def test_every_answer_has_the_headers_that_protect_it(
    gateway: Gateway, backend: Backend, path: str
) -> None:
    answer = await gateway.request("GET", path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-Id"]
    assert len(backend.items) == (path == "/v1/stats")


@pytest.mark.parametrize("path", ["/v1/stats", "/v1/nothing", "/livez", "/v1/sessions"])
async def test_head_is_get_without_a_body(gateway: Gateway, backend: Backend, path: str) -> None:
    whole = await gateway.request("GET", path)
    head = await gateway.request("HEAD", path)
    assert head.status == whole.status
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(whole.body))
    assert len(backend.items) in {0, 2}


async def test_head_works_only_where_get_works(gateway: Gateway, backend: Backend) -> None:
    assert (await gateway.request("HEAD", "/v1/sessions/s1:complete")).status == 405
    assert not backend.items


@pytest.mark.parametrize("method", ["TRACE", "CONNECTX", "get", "PROPFIND"])
async def test_unknown_http_methods_are_not_allowed(gateway: Gateway, backend: Backend, method: str) -> None:
    told = problem_in(await gateway.raw(request_text(gateway, method=method, more="Connection: close\r\n")))
    assert told["status"] in {400, 405}
    assert not backend.items


async def test_the_pages_need_no_token(gateway: Gateway, backend: Backend) -> None:
    for path in ("/livez", "/readyz"):
        answer = await gateway.request("GET", path, token=None)
        assert answer.status == 200
        assert answer.json()["service"] == "gateway"
    await gateway.request("GET", "/v1/stats")
    await gateway.request("GET", "/v1/nothing")
    for path in ("/metrics", "/version"):
        assert (await gateway.request("GET", path)).status == 404
    metrics = await gateway.metrics()
    path = "/homeroom.progress.v1.StatisticsService/GetStats"
    assert f'homeroom_call_seconds_count{{code="OK",method="{path}"}}' in metrics
    assert 'homeroom_call_seconds_count{code="NOT_FOUND",method="unrouted"}' in metrics
    assert backend.items


async def test_no_path_of_a_client_becomes_a_metric(gateway: Gateway) -> None:
    for number in range(5):
        await gateway.request("GET", f"/v1/secret-{number}")
        await gateway.request("GET", f"/v1/sessions/secret-{number}")
    assert "secret" not in await gateway.metrics()


@pytest.mark.parametrize(
    "text",
    [
        b"hello\r\n\r\n",
        b"GET /v1/stats HTTP/9.9\r\n\r\n",
        b"GET /v1/stats HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v1/stats HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET /v1/" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/stats HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 9000 + b"\r\n\r\n",
        b"GET /v1/stats HTTP/1.1\r\nHost: x\r\n" + b"X-Many: x\r\n" * 150 + b"\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda text: str(text[:30]),
)
async def test_what_is_not_http_is_refused_as_a_problem(
    gateway: Gateway, backend: Backend, text: bytes
) -> None:
    told = problem_in(await gateway.raw(text))
    assert (told["status"], told["reason"]) == (400, "INVALID_ARGUMENT")
    assert not backend.items


async def test_a_broken_chunk_is_refused(gateway: Gateway, backend: Backend) -> None:
    more = "Content-Type: application/json\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n"
    head = request_text(gateway, method="POST", path="/v1/sessions", more=more)
    told = problem_in(await gateway.raw(head + b"zz\r\n{}\r\n0\r\n\r\n"))
    assert told["reason"] == "INVALID_ARGUMENT"
    assert not backend.items


async def test_a_body_that_never_arrives_has_a_time_limit(gateway: Gateway, backend: Backend) -> None:
    more = (
        "Content-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: 20\r\n"
        "Request-Timeout: 0.5\r\n"
    )
    told = problem_in(
        await gateway.raw(request_text(gateway, method="POST", path="/v1/sessions", more=more) + b'{"testId"')
    )
    assert "did not arrive within 0.5 s" in told["detail"]
    assert not backend.items


async def test_a_body_without_an_end_is_refused_once_it_is_too_large(
    gateway: Gateway, backend: Backend
) -> None:
    more = "Content-Type: application/json\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n"
    head = request_text(gateway, method="POST", path="/v1/sessions", more=more)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head + chunk * 17)
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()
    assert not backend.items


async def test_headers_that_never_end_have_a_time_limit(gateway: Gateway, backend: Backend) -> None:
    async with running_gateway(
        upstream_port=backend.port,
        identity=gateway.identity,
        connection_limits=ConnectionLimits(head_seconds_max=0.2),
    ) as impatient:
        for begun in (b"", b"GET /v1/stats HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            assert await impatient.raw(begun) == b""
    assert not backend.items


async def test_a_client_may_expect_100_continue_before_its_body(gateway: Gateway, backend: Backend) -> None:
    body = b'{"testId": "t"}'
    more = (
        f"Content-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\nConnection: close\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request_text(gateway, method="POST", path="/v1/sessions", more=more))
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 201")
        await reader.read()
    writer.close()
    assert backend.only_item.request.test_id == "t"


async def test_requests_on_one_connection_are_answered_in_their_order(
    gateway: Gateway, backend: Backend
) -> None:
    texts = [request_text(gateway, more=f"X-Request-Id: r{number}\r\n") for number in range(5)]
    texts.append(request_text(gateway, more="X-Request-Id: last\r\nConnection: close\r\n"))
    answer = await gateway.raw(b"".join(texts))
    ids = [line for line in answer.split(b"\r\n") if line.startswith(b"X-Request-Id")]
    assert ids == [f"X-Request-Id: {name}".encode() for name in ("r0", "r1", "r2", "r3", "r4", "last")]
    assert len(backend.items) == 6


async def test_http_1_0_is_answered_and_the_connection_closed(gateway: Gateway, backend: Backend) -> None:
    answer = await gateway.raw(request_text(gateway).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer.startswith(b"HTTP/1.0 200")
    assert backend.items


async def test_a_request_is_carried_out_although_its_client_leaves(
    gateway: Gateway, backend: Backend
) -> None:
    finished: list[str] = []
    backend.gate.clear()

    def finish(item: Item[Any]) -> Reply[Any]:
        finished.append(item.request.test_id)
        return Reply(sessions_pb2.CreateSessionResponse())

    backend.answers["CreateSession"] = finish
    body = b'{"testId": "t"}'
    more = f"Content-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: {len(body)}\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request_text(gateway, method="POST", path="/v1/sessions", more=more) + body)
    await asyncio.wait_for(backend.arrived.wait(), 10)
    writer.transport.abort()
    backend.gate.set()
    await eventually(lambda: finished == ["t"])
    backend.reset()
    assert (await gateway.request("GET", "/v1/stats")).status == 200


async def test_stopping_lets_requests_in_flight_finish(backend: Backend, gateway: Gateway) -> None:
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity) as stopping:
        backend.gate.clear()
        asked = asyncio.create_task(stopping.request("GET", "/v1/stats"))
        await asyncio.wait_for(backend.arrived.wait(), 10)
        stopping.parts.health.drain()
        assert (await stopping.request("GET", "/readyz")).status == 503
        stopped = asyncio.create_task(stopping.parts.listener.stop())
        await eventually(lambda: _refuses_connections(stopping.port))
        backend.gate.set()
        answer = await asked
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"
        await asyncio.wait_for(stopped, 10)


async def test_stopping_lets_a_body_arrive_completely(backend: Backend, gateway: Gateway) -> None:
    body = b'{"testId": "t"}'
    more = f"Content-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: {len(body)}\r\n"
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity) as stopping:
        reader, writer = await asyncio.open_connection("127.0.0.1", stopping.port)
        idle, of_idle = await asyncio.open_connection("127.0.0.1", stopping.port)
        writer.write(request_text(stopping, method="POST", path="/v1/sessions", more=more) + body[:5])
        await eventually(lambda: _is_receiving(stopping))
        stopping.parts.health.drain()
        stopped = asyncio.create_task(stopping.parts.listener.stop())
        assert await asyncio.wait_for(idle.read(), 10) == b""  # from now on nothing new is read
        for byte in body[5:]:
            writer.write(bytes([byte]))
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"Connection: close" in answer
        await asyncio.wait_for(stopped, 10)
        for each in (writer, of_idle):
            each.close()
            await each.wait_closed()


async def _is_receiving(gateway: Gateway) -> bool:
    return "homeroom_received_bytes 5.0" in await gateway.metrics()


async def _refuses_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def test_overload_is_refused_but_completions_are_still_admitted(
    backend: Backend, gateway: Gateway
) -> None:
    async with running_gateway(
        upstream_port=backend.port,
        identity=gateway.identity,
        limits=Limits(room=RoomLimits(in_flight_max=4, method_share=1.0)),
    ) as small:
        backend.gate.clear()
        waiting = [asyncio.create_task(small.request("GET", "/v1/stats")) for _ in range(4)]
        await eventually(lambda: small.parts.admission.in_flight == 4)
        refused = await small.request("GET", "/v1/stats")
        assert (refused.status, refused.reason) == (503, "OVERLOADED")
        assert 1 <= int(refused.headers["Retry-After"]) <= 3
        completing = asyncio.create_task(small.request("POST", "/v1/sessions/s1:complete"))
        await eventually(
            lambda: any(item.context.method.endswith("CompleteSession") for item in backend.items)
        )
        assert (await small.request("GET", "/livez")).status == 200
        backend.gate.set()
        assert [(await each).status for each in (*waiting, completing)] == [200] * 5


def test_the_installed_aiohttp_has_what_the_connection_uses() -> None:
    """The names that `Connection` takes from aiohttp's protocol are not public."""
    used = {"_waiter", "_messages", "_request_count", "_current_request", "_close", "_force_close"}
    used |= {"_keepalive_timeout", "_next_keepalive_close_time"}
    assert used <= set(web.RequestHandler.__slots__)
    assert "_upgraded" in web.RequestHandler.__base__.__slots__
    for name in ("force_close", "handle_error", "data_received", "connection_made", "connection_lost"):
        assert callable(getattr(web.RequestHandler, name))


async def test_a_request_that_cannot_be_read_is_not_quoted(gateway: Gateway) -> None:
    token = gateway.identity.token("ada")
    text = f"GET /v1/stats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\x7f\r\n\r\n".encode()
    answer = await gateway.raw(text)
    assert b"400 Bad Request" in answer
    assert b"cannot be read as HTTP" in answer
    assert token[:10].encode() not in answer


async def test_an_idle_connection_keeps_nothing_of_the_answer_that_was_sent_on_it(
    gateway: Gateway, backend: Backend
) -> None:
    assert (await gateway.request("GET", "/v1/stats")).status == 200
    kept = [each for each in gc.get_objects() if isinstance(each, HttpResponse)]
    assert kept, "aiohttp no longer keeps the last response of a connection"
    assert not any(each._answer.body for each in kept)
