"""A small client of Homeroom's HTTP API, for the commands that use a stack as any app does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

LATER = frozenset({408, 429, 502, 503, 504})
"""A request with one of these answers may be sent again."""
_SECONDS_MAX = 15.0
_LINE_BYTES_MAX = 1024 * 1024
# The gateway sends a comment every 15 s.
_SILENCE_SECONDS_MAX = 45.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answered; `body` is its JSON object."""

    status: int
    replayed: bool
    body: dict[str, Any]

    @property
    def problem(self) -> str:
        """The problem that was answered, as a sentence."""
        detail = self.body.get("detail") or self.body.get("title") or "no explanation"
        return f"{self.status} {self.body.get('reason', '')}: {detail}"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream. `id` is empty if the event has none; `data` is its JSON object."""

    name: str
    id: str
    data: dict[str, Any]


class ApiError(RuntimeError):
    """The gateway could not be reached, or refused what had to succeed."""


class RefusedError(ApiError):
    """The API refused a request, and sending it again would not help."""


class Api:
    """The API as one user sees it; an asynchronous context."""

    def __init__(self, base_url: str, token: str) -> None:
        self._base_url = base_url
        self._token = token
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._base_url,
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=aiohttp.ClientTimeout(total=_SECONDS_MAX),
            read_bufsize=_LINE_BYTES_MAX,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> Answer:
        """Send one request and return its answer, whatever it is; ApiError if there is no answer at all."""
        headers = {"Idempotency-Key": f'"{key}"'} if key else {}
        try:
            async with self._session.request(method, path, json=body, headers=headers) as response:
                text = await response.text()
                return Answer(
                    status=response.status,
                    replayed=response.headers.get("Idempotent-Replayed") == "true",
                    body=json.loads(text) if text else {},
                )
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            raise ApiError(f"{method} {self._base_url}{path}: {error or type(error).__name__}") from error

    async def events(self, path: str, *, after: str = "") -> AsyncIterator[Event]:
        """The events of a stream (WHATWG HTML, 9.2), from the one behind `after`.

        Raises ApiError if the stream is refused, or breaks.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_SECONDS_MAX)
        try:
            async with self._session.get(path, headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    text = await response.text()
                    refused = Answer(response.status, replayed=False, body=json.loads(text) if text else {})
                    kind = ApiError if response.status in LATER else RefusedError
                    raise kind(f"GET {path} was refused with {refused.problem}")
                fields: dict[str, str] = {}
                async for line in response.content:
                    name, _, value = line.decode().rstrip("\r\n").partition(":")
                    if name:
                        fields[name] = value.removeprefix(" ")
                    elif "data" in fields:
                        yield Event(
                            fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"])
                        )
                    if not name and not value:
                        fields = {}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiError(f"GET {self._base_url}{path}: {error or type(error).__name__}") from error

    async def want(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """Send a request that must succeed, and return its body; ApiError with the problem if it does not."""
        answer = await self.ask(method, path, body, key=key)
        if not 200 <= answer.status < 300:
            raise ApiError(f"{method} {path} was refused with {answer.problem}")
        return answer.body
