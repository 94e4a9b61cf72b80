"""A crowded gateway refuses before it parses: with the same answers, and only what is whole and plain."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
import pytest_asyncio

from gateway.admission import Admission, Limits
from gateway.connections import Connection
from gateway.overload import RoomLimits
from gateway.plain_requests import plain_request
from gateway.quick_refusals import QuickRefusals
from gateway.rate_limits import Quota, RateLimits
from tests.gateway.backend import Backend
from tests.gateway.crowds import counted, head
from tests.gateway.running import Answer, Gateway, running_gateway
from tests.support.waiting import eventually

ROOM = Limits(room=RoomLimits(in_flight_max=4, method_share=1.0, waiting_max=0))
PAGE = "https://app.example.org"
BODY = b'{"testId": "t"}'
LIST = "/homeroom.session.v1.SessionService/ListSessions"


@asynccontextmanager
async def full(backend: Backend, gateway: Gateway, **options: Any) -> AsyncIterator[Gateway]:
    """A gateway with room for four, all of it taken by requests that are not answered."""
    async with running_gateway(
        upstream_port=backend.port, identity=gateway.identity, limits=ROOM, **options
    ) as made:
        backend.gate.clear()
        asked = [asyncio.create_task(made.request("GET", f"/v1/sessions/{n}")) for n in range(4)]
        await eventually(lambda: made.parts.admission.in_flight == 4)
        try:
            yield made
        finally:
            backend.gate.set()
            assert [(await each).status for each in asked] == [200] * 4


@pytest_asyncio.fixture
async def crowded(backend: Backend, gateway: Gateway) -> AsyncIterator[Gateway]:
    async with full(backend, gateway, cors_origins=[PAGE]) as made:
        yield made


@contextmanager
def only_the_application() -> Iterator[None]:
    """Nothing is refused before it is parsed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Admission, "crowded", False)
        yield


@contextmanager
def quick_ones() -> Iterator[list[str]]:
    """The targets of the requests that are refused before they are parsed."""
    targets: list[str] = []
    answer = QuickRefusals.answer

    def noted(self: QuickRefusals, request: Any, **options: Any) -> bytes | None:
        refusal = answer(self, request, **options)
        if refusal is not None:
            targets.append(request.target)
        return refusal

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QuickRefusals, "answer", noted)
        yield targets


class Line:
    """A connection, and what comes back on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *packets: bytes) -> None:
        for packet in packets:
            self.writer.write(packet)
            await self.writer.drain()
            if packet is not packets[-1]:
                await asyncio.sleep(0.02)  # so that they do not arrive as one

    async def ask(self, *packets: bytes, without_body: bool = False) -> bytes:
        await self.send(*packets)
        return await self.answer(without_body=without_body)

    async def answer(self, *, without_body: bool = False) -> bytes:
        async with asyncio.timeout(10):
            told = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", told)
            body = b"" if without_body or length is None else await self.reader.readexactly(int(length[1]))
            return told + body

    async def rest(self) -> bytes:
        """All that comes until the gateway closes the connection."""
        async with asyncio.timeout(10):
            told = b""
            with suppress(ConnectionError):
                while more := await self.reader.read(65536):
                    told += more
            return told


@asynccontextmanager
async def line(gateway: Gateway) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


def get(gateway: Gateway, path: str = "/v1/sessions?pageSize=5", more: str = "") -> bytes:
    return head(gateway, method="GET", path=path, more=more)


def start(gateway: Gateway, more: str = "") -> bytes:
    return head(gateway, length=len(BODY), more=more) + BODY


def same(answer: bytes) -> bytes:
    """An answer without what differs between two equal ones."""
    text = re.sub(rb"[0-9a-f]{32}", b"<id>", answer)
    text = re.sub(rb"Retry-After: [1-3]\r\n", b"Retry-After: <seconds>\r\n", text)
    return re.sub(rb"Date: [^\r]+", b"Date: <now>", text)


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


def odd_requests(gateway: Gateway) -> dict[str, list[bytes]]:
    """What the parser must see, as packets; the gateway answers each at least once."""
    plain, posted = get(gateway), start(gateway)
    chunked = head(gateway, more="Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n")
    return {
        "the body in a second packet": [posted[: -len(BODY)], BODY],
        "the head in two packets": [plain[:30], plain[30:]],
        "a packet that ends between CR and LF": [plain[:-1], plain[-1:]],
        "two requests in one packet": [plain + plain],
        "a request and the beginning of another": [plain + plain[:40], plain[40:]],
        "chunked": [chunked + b"f\r\n" + BODY + b"\r\n0\r\n\r\n"],
        "chunked and a length": [
            head(gateway, length=len(BODY), more="Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n"
        ],
        "two lengths": [head(gateway, length=len(BODY), more="Content-Length: 15\r\n") + BODY],
        "a length that is no number": [head(gateway, more="Content-Length: +1\r\n") + b"x"],
        "Expect": [head(gateway, length=len(BODY), more="Expect: 100-continue\r\n") + BODY],
        "Upgrade": [get(gateway, more="Connection: Upgrade\r\nUpgrade: websocket\r\n")],
        "Connection: close": [get(gateway, more="Connection: close\r\n")],
        "HTTP/1.0": [plain.replace(b"HTTP/1.1", b"HTTP/1.0")],
        "HEAD": [plain.replace(b"GET ", b"HEAD ")],
        "OPTIONS": [plain.replace(b"GET ", b"OPTIONS ")],
        "an unknown method": [plain.replace(b"GET ", b"BREW ")],
        "a bad request line": [plain.replace(b"GET ", b"GET  ")],
        "no version": [b"GET /v1/sessions\r\n\r\n"],
        "an absolute target": [plain.replace(b"GET /", b"GET http://x/")],
        "a header without a name": [get(gateway, more=": x\r\n")],
        "a space before the colon": [get(gateway, more="Content-Length : 3\r\n") + b"abc"],
        "a folded header": [get(gateway, more="X-A: b\r\n c\r\n")],
        "a bare line feed": [get(gateway, more="X-A: b\nTransfer-Encoding: chunked\r\n")],
        "a control character": [get(gateway, more="X-A: b\x00c\r\n")],
        "a byte that is not ASCII": [get(gateway, more="X-A: ü\r\n")],
        "many headers": [get(gateway, more="".join(f"X-{n}: y\r\n" for n in range(90)))],
        "too many headers": [get(gateway, more="".join(f"X-{n}: y\r\n" for n in range(300)))],
        "a long header": [get(gateway, more=f"X-A: {'b' * 8100}\r\n")],
        "too long a header": [get(gateway, more=f"X-A: {'b' * 9000}\r\n")],
        "a large body": [head(gateway, length=200_000) + b" " * 200_000],
        "an unknown path": [get(gateway, "/v1/nothing")],
        "a method without a route": [plain.replace(b"GET ", b"PATCH ")],
        "a path with dots": [get(gateway, "/v1/../v1/sessions")],
        "a path that is not UTF-8": [get(gateway, "/v1/sessions/%ff")],
        "a page": [get(gateway, "/livez")],
        "another request id": [get(gateway, more="X-Request-Id: a\r\nX-Request-Id: b\r\n")],
    }


async def all_answers(gateway: Gateway, packets: list[bytes], *, warmed_up: bool) -> bytes:
    """What comes back until the gateway closes, after a last request that asks for it."""
    async with line(gateway) as one:
        if warmed_up:
            await one.ask(get(gateway))
        await one.send(*packets)
        await asyncio.sleep(0.02)
        await one.send(get(gateway, "/livez", more="Connection: close\r\n"))
        return same(await one.rest())


@pytest.mark.parametrize("warmed_up", [False, True], ids=["the first request", "a later request"])
async def test_what_is_odd_is_answered_as_before(crowded: Gateway, warmed_up: bool) -> None:
    for name, packets in odd_requests(crowded).items():
        told = await all_answers(crowded, packets, warmed_up=warmed_up)
        with only_the_application():
            expected = await all_answers(crowded, packets, warmed_up=warmed_up)
        assert told == expected, name
        assert told.startswith(b"HTTP/1."), name


async def test_what_is_odd_is_not_plain(gateway: Gateway) -> None:
    plain = {"a large body", "an unknown path", "a method without a route", "a path with dots", "a page"}
    plain.add("a path that is not UTF-8")  # these are whole requests, and the routes decide
    for name, packets in odd_requests(gateway).items():
        assert {plain_request(packet) is not None for packet in packets} == {name in plain}, name
    assert plain_request(get(gateway))
    assert plain_request(start(gateway))


@pytest.mark.parametrize(
    "beginning",
    [
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nX-A: ",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-A: ",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-A: ",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-A: ",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-A: ",
        b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n",
    ],
)
@pytest.mark.parametrize("crowd_first", [False, True])
async def test_a_request_inside_another_one_is_never_answered(
    backend: Backend, gateway: Gateway, beginning: bytes, crowd_first: bool
) -> None:
    """The beginning of a request arrives with another one; what comes next only looks like a request."""

    async def conversation(made: Gateway) -> bytes:
        async with line(made) as one:
            if crowd_first:
                await one.ask(get(made))
            await one.ask(get(made, "/livez") + beginning)
            with suppress(ConnectionError):  # some are closed at once, with an answer
                await one.send(b"", start(made), get(made), start(made), b"")
                one.writer.write_eof()
            return same(await one.rest())

    async with full(backend, gateway, idle_seconds_max=0.5) as made:
        told = await conversation(made)
        with only_the_application():
            expected = await conversation(made)
    assert told == expected


async def test_a_connection_whose_past_is_not_known_becomes_known_with_one_request(
    backend: Backend, gateway: Gateway
) -> None:
    async with full(backend, gateway) as made, line(made) as one:
        with only_the_application():
            await one.ask(get(made))
        with quick_ones() as targets:
            for expected in (0, 1, 2):
                assert b"OVERLOADED" in await one.ask(get(made))
                assert len(targets) == expected
            await one.ask(start(made)[:-5], start(made)[-5:])
            assert len(targets) == 2
            await one.ask(start(made))
            assert len(targets) == 2
            await eventually(lambda: _asked_until(one, made, targets, 3))


async def _asked_until(one: Line, made: Gateway, targets: list[str], number: int) -> bool:
    """Asks once more; whether so many requests were refused quickly by then."""
    await one.ask(start(made))
    return len(targets) == number


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
