"""An answer of the gateway, and how it is sent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPMethod, HTTPStatus
from typing import Protocol, cast

from aiohttp import HttpVersion11, web

JSON = "application/json"
OK = "OK"

Headers = tuple[tuple[str, str], ...]
REPLAYED: Headers = (("Idempotent-Replayed", "true"),)

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_NO_CONTENT = HTTPStatus.NO_CONTENT.value
_HEAD = HTTPMethod.HEAD.value


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body, and the headers that not every answer has. `code` is OK or the name of a reason."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Headers = ()
    code: str = OK


class HttpResponse:
    """An answer in the shape that aiohttp's protocol sends, as one piece.

    It stands in for `web.Response`: the protocol uses these two steps and `keep_alive`. It takes 9 µs less of
    about 130 µs for a start (aiohttp 3.14). It also counts what was sent on the connection, which shows
    whether the client reads, and it gives the request's place among those in flight back after sending.
    """

    __slots__ = ("_answer", "_close", "_place", "_request_id", "keep_alive")

    def __init__(self, answer: Answer, *, request_id: str, close: bool, place: _Place | None = None) -> None:
        self._answer = answer
        self._request_id = request_id
        self._close = close
        self._place = place
        self.keep_alive = False

    async def prepare(self, request: web.BaseRequest) -> None:
        """Sends it; raises ConnectionError when the client has left."""
        try:
            self.keep_alive = request.keep_alive and not self._close
            data = self._bytes(http_1_1=request.version >= HttpVersion11, with_body=request.method != _HEAD)
            connection = cast("_Connection", request.protocol)
            connection.sent_bytes += len(data)
            await request.writer.write(data)
            if connection.writing_paused:
                await request.writer.drain()
        finally:
            if self._place is not None:
                self._place.leave()

    async def write_eof(self) -> None:
        """Nothing is left to be written."""

    def last_words(self) -> bytes:
        """The answer for a connection that is closed without a request."""
        return self._bytes(http_1_1=True, with_body=True)

    def _bytes(self, *, http_1_1: bool, with_body: bool) -> bytes:
        """Nothing may be cached, and no type guessed: answers are data for one person."""
        answer = self._answer
        more = "".join([f"{name}: {value}\r\n" for name, value in answer.headers])
        if answer.status != _NO_CONTENT:
            more += f"Content-Length: {len(answer.body)}\r\n"
        if self.keep_alive != http_1_1:
            more += "Connection: keep-alive\r\n" if self.keep_alive else "Connection: close\r\n"
        head = (
            f"HTTP/1.{int(http_1_1)} {answer.status} {_REASONS[answer.status]}\r\n"
            f"Content-Type: {answer.content_type}\r\n"
            f"X-Request-Id: {self._request_id}\r\n"
            f"Date: {_date(int(time.time()))}\r\n"
            "Cache-Control: no-store\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            f"{more}\r\n"
        ).encode("ascii")
        return head + answer.body if with_body else head


class _Place(Protocol):
    """The place of a request among those in flight."""

    def leave(self) -> None: ...


class _Connection(Protocol):
    """What an answer needs of the connection that it is sent on."""

    sent_bytes: int

    @property
    def writing_paused(self) -> bool: ...


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
