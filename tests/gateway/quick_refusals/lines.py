"""A gateway without room, and connections to it that send bytes as they are."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from gateway.admission import Admission, Limits
from gateway.backlog import Backlog
from gateway.overload import RoomLimits
from gateway.quick_refusals import QuickRefusals
from tests.gateway.backend import Backend
from tests.gateway.crowds import head
from tests.gateway.running import Gateway, running_gateway
from tests.support.waiting import eventually

ROOM = Limits(room=RoomLimits(in_flight_max=4, method_share=1.0, waiting_max=0))
PAGE = "https://app.example.org"
BODY = b'{"testId": "t"}'


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


@contextmanager
def every_request_waits() -> Iterator[None]:
    """A crowded gateway looks at nothing in the turn of the event loop in which it received it."""
    takes = Backlog.takes

    def late(self: Backlog, *arguments: Any) -> bool:
        self._left = 0
        return takes(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backlog, "takes", late)
        yield


class Line:
    """A connection, and what comes back on it.

    It is a plain socket: a stream of asyncio loses what it has received when a write fails, and the gateway
    closes some of these connections while they still send.
    """

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._received = b""

    async def send(self, *packets: bytes) -> None:
        for packet in packets:
            await asyncio.get_running_loop().sock_sendall(self._wire, packet)
            if packet is not packets[-1]:
                await asyncio.sleep(0.02)  # so that they do not arrive as one

    def end(self) -> None:
        """Says that nothing more is sent, unless the gateway has closed the connection."""
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_WR)

    async def ask(self, *packets: bytes, without_body: bool = False) -> bytes:
        await self.send(*packets)
        return await self.answer(without_body=without_body)

    async def answer(self, *, without_body: bool = False) -> bytes:
        async with asyncio.timeout(10):
            while b"\r\n\r\n" not in self._received:
                await self._receive()
            head_bytes = self._received.index(b"\r\n\r\n") + 4
            length = re.search(rb"Content-Length: (\d+)", self._received[:head_bytes])
            size_bytes = head_bytes + (0 if without_body or length is None else int(length[1]))
            while len(self._received) < size_bytes:
                await self._receive()
        told, self._received = self._received[:size_bytes], self._received[size_bytes:]
        return told

    async def rest(self) -> bytes:
        """All that comes until the gateway closes the connection."""
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                while True:
                    await self._receive()
        return self._received

    async def _receive(self) -> None:
        more = await asyncio.get_running_loop().sock_recv(self._wire, 65536)
        if not more:
            raise ConnectionResetError(f"closed after {self._received!r}")
        self._received += more


@asynccontextmanager
async def line(gateway: Gateway) -> AsyncIterator[Line]:
    with socket.socket() as wire:
        wire.setblocking(False)
        await asyncio.get_running_loop().sock_connect(wire, ("127.0.0.1", gateway.port))
        yield Line(wire)


def get(gateway: Gateway, path: str = "/v1/sessions?pageSize=5", more: str = "") -> bytes:
    return head(gateway, method="GET", path=path, more=more)


def start(gateway: Gateway, more: str = "") -> bytes:
    return head(gateway, length=len(BODY), more=more) + BODY


def same(answer: bytes) -> bytes:
    """An answer without what differs between two equal ones."""
    text = re.sub(rb"[0-9a-f]{32}", b"<id>", answer)
    text = re.sub(rb"Retry-After: [1-3]\r\n", b"Retry-After: <seconds>\r\n", text)
    return re.sub(rb"Date: [^\r]+", b"Date: <now>", text)
