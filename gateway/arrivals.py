"""A connection until the head of its first request is there.

A connection of aiohttp has a parser, a task, a timer and their buffers: 6 KiB and 60 µs of CPU. Thousands of
clients that connect and send slowly, or nothing, would make all that for nothing. Before there is a head, a
connection takes 1.5 KiB and a third of the CPU (aiohttp 3.14, uvloop 0.22).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

from chassis.errors import Reason, ServiceError
from gateway.answers import HttpResponse
from gateway.connections import Connection, Connections
from gateway.networks import address_of
from gateway.plain_requests import may_become_plain
from gateway.problems import problem
from gateway.request_headers import request_id_of


class Arrival(asyncio.Protocol):
    """Keeps the beginning of a plain head, and hands the connection over at its end, or at anything else.

    Args:
        make: makes the connection that goes on.
    """

    __slots__ = ("_connections", "_make", "_received", "_since", "_wire", "address")

    def __init__(self, *, connections: Connections, make: Callable[[], Connection]) -> None:
        self._connections = connections
        self._make = make
        self._wire: asyncio.Transport | None = None
        self._received = b""
        self._since = 0.0
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.address = address_of(wire.get_extra_info("peername"))
        self._since = time.monotonic()
        if self._connections.enter(self):
            self._wire = wire
        else:  # nothing is read from it
            wire.write(_refusal())
            wire.close()

    def data_received(self, data: bytes) -> None:
        if self._wire is None:
            return
        self._received += data
        if not may_become_plain(self._received):
            self._hand_over(self._wire)

    def _hand_over(self, wire: asyncio.Transport) -> None:
        connection = self._make()
        wire.set_protocol(connection)
        connection.take_over(self, wire, since=self._since)
        self._wire = None
        connection.data_received(self._received)

    def connection_lost(self, _exc: BaseException | None) -> None:
        self._wire = None
        self._connections.leave(self)

    def overdue(self, now: float) -> str:
        """The reason to close this connection now; empty when there is none."""
        return "headers_too_slow" if now - self._since >= self._connections.limits.head_seconds_max else ""

    def cut_off(self) -> None:
        """Closes the connection now."""
        if self._wire is not None:
            self._wire.close()


def _refusal() -> bytes:
    """The answer for a connection above the limits."""
    request_id = request_id_of(None)
    answer = problem(ServiceError(Reason.OVERLOADED), instance="/", request_id=request_id)
    return HttpResponse(answer, request_id=request_id, close=True).without_request()
