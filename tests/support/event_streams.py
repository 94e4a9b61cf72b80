"""The client's side of server-sent events: a reader of one stream, and a tab that comes back."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import orjson


@dataclass(frozen=True)
class Told:
    """One event, as a browser reads it."""

    name: str
    data: Any
    id: str
    retry_ms: int | None


class EventReader:
    """Reads an event stream by the rules of WHATWG HTML, 9.2.6."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.response = response
        self.last_id = ""
        self.comments = 0

    async def next(self) -> Told | None:
        """The next event with data; None when the stream has ended."""
        name, data, retry_ms = "message", list[str](), None
        async with asyncio.timeout(60):
            async for line in self.response.content:
                text = line.decode().removesuffix("\n")
                field, _, value = text.partition(":")
                value = value.removeprefix(" ")
                if text.startswith(":"):
                    self.comments += 1
                elif field == "id":
                    self.last_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "retry":
                    retry_ms = int(value)
                elif not text and data:
                    return Told(name, orjson.loads("\n".join(data)), self.last_id, retry_ms)
                elif not text:
                    name = "message"
        assert not data, "the stream ended in the middle of an event"
        return None

    async def rest(self) -> list[Told]:
        """The events up to the end of the stream."""
        events: list[Told] = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


class Tab:
    """A page of one learner that follows `/v1/events`, and comes back as docs/events.md says.

    `told` are all its events. `ends` are the reasons of `closing`, and "" for each connection that was lost.
    """

    def __init__(self, *, base_url: str, token: str) -> None:
        self.told: list[Told] = []
        self.ends: list[str] = []
        self.statuses: list[int] = []
        self._url = f"{base_url}/v1/events"
        self._token = token
        self._last_id = ""
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._following is not None
        self._following.cancel()
        with suppress(asyncio.CancelledError):
            await self._following

    def data(self, name: str) -> list[Any]:
        """The data of all events with this name."""
        return [event.data for event in self.told if event.name == name]

    def states(self, session: str) -> list[tuple[int, str]]:
        """Version and state of one session, as they were told."""
        return [
            (each["version"], each["state"]) for each in self.data("session") if each["sessionId"] == session
        ]

    async def _follow(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                pause_ms = random.randint(50, 250)
                try:
                    pause_ms = await self._connect(session) or pause_ms
                except (aiohttp.ClientError, TimeoutError, AssertionError):
                    self.ends.append("")
                await asyncio.sleep(pause_ms / 1000)

    async def _connect(self, session: aiohttp.ClientSession) -> int | None:
        """Follows one stream to its end; the pause that it asks for."""
        headers = {"Authorization": f"Bearer {self._token}"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        async with session.get(self._url, headers=headers) as response:
            self.statuses.append(response.status)
            if response.status != 200:
                return None
            reader = EventReader(response)
            reader.last_id = self._last_id
            while (event := await reader.next()) is not None:
                self._last_id = reader.last_id
                if event.name == "closing":
                    self.ends.append(event.data["reason"])
                    return event.retry_ms
                self.told.append(event)
        self.ends.append("")
        return None
