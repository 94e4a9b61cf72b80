"""What the gateway answers, and how it is written to a connection."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPMethod, HTTPStatus

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

    It stands in for `web.Response`, of which the protocol uses these two steps and `keep_alive`. That one
    can also be streamed, compressed and changed on its way, for 8 µs more than these few lines take.
    """

    __slots__ = ("_answer", "_close", "_request_id", "keep_alive")

    def __init__(self, answer: Answer, *, request_id: str, close: bool) -> None:
        self._answer = answer
        self._request_id = request_id
        self._close = close
        self.keep_alive = False

    async def prepare(self, request: web.BaseRequest) -> None:
        """Writes it; raises ConnectionError when the client has gone."""
        answer = self._answer
        self.keep_alive = request.keep_alive and not self._close
        body = b"" if request.method == _HEAD else answer.body
        await request.writer.write(self._head(request.version >= HttpVersion11) + body)

    async def write_eof(self) -> None:
        """Nothing is left to be written."""

    def _head(self, http_1_1: bool) -> bytes:
        """Nothing may be cached or guessed at: answers are for one person, and data."""
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
        )
        return head.encode("ascii")


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
