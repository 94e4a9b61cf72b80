"""What is taken for a whole plain request is one for aiohttp's parser, too."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from gateway.plain_requests import HEAD_BYTES_MAX, may_become_plain, plain_request

PLAIN = (
    b"POST /v1/sessions?a=b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\nX-Request-Id: r1\r\n"
    b"Content-Length: 3\r\n\r\nabc"
)
NAMES = [
    "Host",
    "X-A",
    "content-length",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Expect",
    "X A",
]
NAMES += ["", " X", "Upgrade", "X-Request-Id", "x-request-id", "Ä", "Trailer", "Content-Length ", "X:Y"]
VALUES = ["", "x", "3", "0", "03", "+3", "3, 3", "close", "keep-alive", "chunked", "identity", "100-continue"]
VALUES += ["a b", "\tx ", "\x00", "a\nb", "a\rb", "é", "websocket", "9" * 30, "x" * 50]
PIECES = [b"GET ", b"POST ", b"get ", b"PUT ", b"/v1/x", b"/", b"*", b"http://x/", b" HTTP/1.1", b" HTTP/1.0"]
PIECES += [
    b" HTTP/2.0",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"#",
    b"?a=%00",
    b"\xff",
    b"abc",
    b"Host: x",
]


def parsed(data: bytes) -> list[tuple[str, str, bytes]]:
    """The requests that aiohttp finds, with their bodies; an error is one of HTTP."""
    loop = asyncio.new_event_loop()
    try:
        protocol = Mock(spec=BaseProtocol, _reading_paused=False, _loop=loop)
        parser = HttpRequestParser(protocol, loop, 2**16, max_line_size=8190, max_field_size=8190)
        messages, upgraded, _ = parser.feed_data(data)
        assert not upgraded
        return [
            (
                message.method,
                message.path,
                b"".join(getattr(payload, "_buffer", ())) if payload.is_eof() else b"incomplete",
            )
            for message, payload in messages
        ]
    finally:
        loop.close()


def check(data: bytes) -> None:
    found = plain_request(data)
    if found is not None:
        body = data.partition(b"\r\n\r\n")[2]
        assert parsed(data) == [(found.http_method, found.target, body)]
        assert not may_become_plain(data)


@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(NAMES), st.sampled_from([":", ": ", ":\t", " :", ""]), st.sampled_from(VALUES)
        ),
        max_size=5,
    ),
    body=st.sampled_from([b"", b"abc", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
)
def test_headers(lines: list[tuple[str, str, str]], body: bytes) -> None:
    text = "".join(f"{name}{colon}{value}\r\n" for name, colon, value in lines)
    for host in ("", "Host: y\r\n"):
        check(f"POST /v1/x HTTP/1.1\r\n{host}{text}\r\n".encode() + body)


@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_pieces(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    check(data)
    check(data + b"\r\n\r\n")


@given(at=st.integers(0, len(PLAIN) - 1), byte=st.integers(0, 255), insert=st.booleans())
def test_one_wrong_byte(at: int, byte: int, insert: bool) -> None:
    check(PLAIN[:at] + bytes([byte]) + PLAIN[at + (not insert) :])


def test_the_request_and_the_headers_that_a_refusal_needs() -> None:
    found = plain_request(PLAIN)
    assert found is not None
    assert (found.http_method, found.target) == ("POST", "/v1/sessions?a=b")
    assert found.headers == {"host": "x", "x-request-id": "r1", "content-length": "3"}


def test_every_beginning_of_a_head_may_become_a_request_and_its_end_may_not() -> None:
    head, _, _ = PLAIN.partition(b"\r\n\r\n")
    version = range(head.index(b" HTTP/1.1"), head.index(b"\r\n") + 2)  # in there, the parser takes over
    assert all(
        may_become_plain(head[:length])
        for length in range(1, len(head))
        if length not in {4, 5, *(n + 1 for n in version)}
    )
    assert not may_become_plain(head + b"\r\n\r\n")
    assert not may_become_plain(PLAIN)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01",
        b"get / HTTP/1.1\r\n",
        b"GET  /",
        b"GET / HTTP/1.0\r\n",
        b"GET / HTTP/1.1\n",
        b"PRI * ",
        b"GET / HTTP/1.1\r\nno colon\r\n",
        b"GET / HTTP/1.1\r\nX: \x00",
        b"GET /" + b"a" * HEAD_BYTES_MAX,
    ],
)
def test_what_is_odd_from_its_beginning_is_not_waited_for(data: bytes) -> None:
    assert not may_become_plain(data)
