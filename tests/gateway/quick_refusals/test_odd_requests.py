"""Only what is whole and plain is refused before it is parsed."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress

import pytest

from gateway.plain_requests import plain_request
from tests.gateway.backend import Backend
from tests.gateway.crowds import head
from tests.gateway.quick_refusals.lines import (
    BODY,
    Line,
    every_request_waits,
    full,
    get,
    line,
    only_the_application,
    quick_ones,
    same,
    start,
)
from tests.gateway.running import Gateway
from tests.support.waiting import eventually


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
@pytest.mark.parametrize("waits", [False, True])
async def test_what_is_odd_is_answered_as_before(crowded: Gateway, warmed_up: bool, waits: bool) -> None:
    for name, packets in odd_requests(crowded).items():
        with every_request_waits() if waits else nullcontext():
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
@pytest.mark.parametrize("waits", [False, True])
async def test_a_request_inside_another_one_is_never_answered(
    backend: Backend, gateway: Gateway, beginning: bytes, crowd_first: bool, waits: bool
) -> None:
    """The beginning of a request arrives with another one; what comes next only looks like a request."""

    async def conversation(made: Gateway) -> bytes:
        async with line(made) as one:
            if crowd_first:
                await one.ask(get(made))
            await one.ask(get(made, "/livez") + beginning)
            with suppress(ConnectionError):  # some are closed at once, with an answer
                await one.send(b"", start(made), get(made), start(made), b"")
                one.end()
            return same(await one.rest())

    async with full(backend, gateway, idle_seconds_max=0.5) as made:
        with every_request_waits() if waits else nullcontext():
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
