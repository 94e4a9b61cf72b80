"""The connections of clients, and their limits in number and in time.

aiohttp does not limit the number of connections, the time in which a client sends its headers, or the time in
which it reads an answer. A sweep checks all connections about once a second, so no request needs a timer.
"""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from chassis.errors import Reason, ServiceError
from chassis.rpc.reasons import CODES
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics
from gateway.admission import Shares
from gateway.answers import HttpResponse
from gateway.authentication import token_too_long
from gateway.networks import host_of
from gateway.plain_requests import PlainRequest, plain_request
from gateway.problems import problem
from gateway.quick_refusals import QuickRefusals
from gateway.request_headers import request_id_of

SWEEP_SECONDS = 1.0
# After so many checked or closed connections others have a turn: thousands may be overdue at once.
CHECKED_PER_TURN_MAX = 500
CLOSED_PER_TURN_MAX = 10
# How much the transport buffers before it asks the writer to wait. One answer may exceed this.
WRITE_BUFFER_BYTES_MAX = 64 * 1024
# File descriptors that are not for clients: upstreams, files, and connections that are being refused.
DESCRIPTORS_RESERVED = 256

# How the parser begins to quote a line that is too long.
_BEARER = re.compile(r"^[^a-z]*(b['\"])?bearer ", re.IGNORECASE)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of connections."""

    connections_max: int = 10_000
    connections_per_address_max: int = 5_000
    """Behind a load balancer, all clients have its address."""
    head_seconds_max: float = 10.0
    """The time from the connection, or from the first byte of a later request, to the end of the headers."""
    head_bytes_max: int = 32 * 1024
    unread_seconds_max: float = 10.0
    """How long a client may read nothing of what was sent to it, before its connection is closed."""


class AnyConnection(Protocol):
    """What all connections have: those whose first request is still to come, and those that go on."""

    @property
    def address(self) -> str:
        """The client's, as limits are counted by it."""

    def overdue(self, now: float) -> str:
        """The reason to close this connection now; empty when there is none."""

    def cut_off(self) -> None:
        """Closes the connection now."""


class Connections:
    """All connections that are open."""

    def __init__(self, *, limits: ConnectionLimits, metrics: Metrics) -> None:
        self.limits = limits
        self._open: set[AnyConnection] = set()
        self._addresses = Shares(limits.connections_per_address_max)
        self._ended = metrics.counter(
            "connections_ended", "Connections that this process refused or closed, by reason.", ("reason",)
        )
        metrics.gauge("connections", "Connections that are open.", lambda: float(len(self._open)))

    def enter(self, connection: AnyConnection) -> bool:
        """Counts a connection; False when there are too many."""
        if len(self._open) >= self.limits.connections_max:
            self._ended.add("too_many")
            return False
        if not self._addresses.add(connection.address):
            self._ended.add("too_many_of_address")
            return False
        self._open.add(connection)
        return True

    def leave(self, connection: AnyConnection) -> None:
        """Counts a connection as closed. A refused connection was never counted."""
        if connection in self._open:
            self._open.remove(connection)
            self._addresses.remove(connection.address)

    def replace(self, connection: AnyConnection, other: AnyConnection) -> None:
        """Counts a connection as another one from now on."""
        self._open.remove(connection)
        self._open.add(other)

    def cut_off(self, kind: type[AnyConnection]) -> None:
        """Closes all connections of this kind."""
        for connection in list(self._open):
            if isinstance(connection, kind):
                connection.cut_off()

    async def sweep(self) -> None:
        """Closes the connections whose clients take too long, some in each turn of the event loop."""
        checked = closed = 0
        for connection in list(self._open):
            if checked >= CHECKED_PER_TURN_MAX or closed >= CLOSED_PER_TURN_MAX:
                checked = closed = 0
                await asyncio.sleep(0)
            checked += 1
            reason = connection.overdue(time.monotonic()) if connection in self._open else ""
            if reason:
                closed += 1
                self._ended.add(reason)
                connection.cut_off()


class Connection(web.RequestHandler):
    """aiohttp's protocol with our limits. Its own errors are answered as problems instead of text.

    While the gateway is crowded, it refuses requests before aiohttp parses them (`QuickRefusals`). Only on a
    connection where everything that came before is known to belong to requests that are complete: the parser
    may hold the beginning of a request, and what comes next is then not what it seems to be.

    What one turn of the event loop has no time to look at waits in the backlog of the admission.

    It uses `_waiter`, `_messages`, `_upgraded`, `_request_count`, `_current_request`, `_close`,
    `_force_close`, `_keepalive_timeout` and `_next_keepalive_close_time` of aiohttp's protocol;
    pyproject.toml bounds the version.
    """

    __slots__ = (
        "_answered_count",
        "_connections",
        "_drained_bytes",
        "_head_bytes",
        "_head_since",
        "_peer",
        "_quick",
        "_settled",
        "_unread",
        "_unread_since",
        "_wire",
        "address",
        "on_lost",
        "received_at",
        "sent_bytes",
    )

    def __init__(
        self, manager: web.Server, *, connections: Connections, quick: QuickRefusals, **options: Any
    ) -> None:
        super().__init__(manager, **options)
        self._connections = connections
        self._quick = quick
        self._settled = True
        self._answered_count = 0  # without an answer that is the last one of its connection
        self._unread = b""
        self._peer = ""
        self._wire: asyncio.Transport | None = None  # aiohttp's own reference is gone when it begins to close
        self._head_since = 0.0
        self._head_bytes = 0
        self._unread_since = 0.0
        self._drained_bytes = 0
        self.address = ""
        self.sent_bytes = 0
        """The bytes that were written to the transport so far."""
        self.received_at = 0.0
        """When the request that comes next was received, by `time.monotonic`; 0 if it has not waited."""
        self.on_lost: Callable[[], object] | None = None
        """Is called when the client has left; for an answer that lasts."""

    def take_over(self, arrival: AnyConnection, wire: asyncio.Transport, *, since: float) -> None:
        """Goes on with a connection that has been counted.

        Args:
            arrival: as what it was counted.
            wire: its transport.
            since: when it was opened, in seconds of `time.monotonic`.
        """
        self._wire = wire
        self._peer = host_of(wire.get_extra_info("peername"))
        self.address = arrival.address
        self._connections.replace(arrival, self)
        wire.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self._head_since = since
        self.connection_made(wire)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.leave(self)
        self._unread = b""
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._unread:
            self._look()  # at what came before
        else:
            self.received_at = 0.0
        admission = self._quick.admission
        if admission.crowded and self._is_idle() and admission.backlog.takes(self._look, len(data)):
            self._unread = data
            self.received_at = time.monotonic()
            if self._settled:  # else this may be one more byte of a head that takes too long
                self._head_since = 0.0
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        else:
            self._read(data)

    def close(self) -> None:
        """Stops after the requests that were received."""
        self._look()
        super().close()

    def _look(self) -> None:
        """Reads what waits in the backlog."""
        data, self._unread = self._unread, b""
        if not data or self._wire is None or self._wire.is_closing():
            return
        try:
            self._read(data)
        except Exception:
            log.exception("request_failed_outside_application")
            self._wire.abort()

    def _read(self, data: bytes) -> None:
        before = self._request_count
        if (self._close or self._force_close) and self._receives_body():
            # The process stops. aiohttp would discard the rest of the body: the request would wait in vain.
            closing, self._close, self._force_close = (self._close, self._force_close), False, False
            try:
                super().data_received(data)
            finally:
                self._close, self._force_close = closing
            return
        plain = None
        if self._quick.admission.crowded and self._is_idle():
            plain = plain_request(data)
            if plain is not None and self._settled and self._refuse(plain):
                return
        super().data_received(data)
        self._settled = plain is not None and self._is_settled(before)
        if self._request_count != before:
            self._quick.admission.coming.add()
            self._head_since = 0.0
            self._head_bytes = 0
        elif self._head_since or self._waits_for_request():
            self._head_since = self._head_since or time.monotonic()
            self._head_bytes += len(data)
            if self._head_bytes > self._connections.limits.head_bytes_max:
                self.cut_off()

    def _refuse(self, request: PlainRequest) -> bool:
        """Whether this request was refused at once, so that the parser must not see it."""
        if self._wire is None or self._close or self._force_close or self.writing_paused:
            return False
        refusal = self._quick.answer(
            request, peer=self._peer, peer_address=self.address, received_at=self.received_at
        )
        if refusal is None:
            return False
        self.sent_bytes += len(refusal)
        self._wire.write(refusal)
        self._head_since = 0.0
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _is_idle(self) -> bool:
        """Whether no request is under way, not even one that was only parsed.

        aiohttp's task does not wait for the next request before the turn of the event loop after the one in
        which it wrote the answer. A busy client has sent it by then.
        """
        return self._answered_count == self._request_count

    def _is_settled(self, request_count_before: int) -> bool:
        """Whether the parser holds nothing after an idle connection received what looked like one request.

        It was one if the parser found one, whole. If it already held a beginning, it found the end of both.
        """
        if self._request_count != request_count_before + 1 or self._upgraded:
            return False
        _, body = self._messages[-1]
        return body.is_eof()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends an answer, and notes that it is complete."""
        finished = await super().finish_response(request, resp, start_time)
        self._answered_count += bool(resp.keep_alive)
        return finished

    def _receives_body(self) -> bool:
        """Whether the body of the request that is under way still comes in."""
        request = self._current_request
        return request is not None and not request.content.is_eof()

    def _waits_for_request(self) -> bool:
        """Whether no request is under way, so that what comes in are headers.

        The waiter is done as soon as headers are complete, and is gone when the event loop comes round. In
        between, more of a large body may arrive.
        """
        return self._waiter is not None and not self._waiter.done()

    def overdue(self, now: float) -> str:
        """The reason to close this connection now; empty when there is none."""
        limits = self._connections.limits
        if self._head_since and now - self._head_since >= limits.head_seconds_max:
            return "headers_too_slow"
        unread_bytes = 0 if self._wire is None else self._wire.get_write_buffer_size()
        drained_bytes = self.sent_bytes - unread_bytes
        if not unread_bytes or drained_bytes != self._drained_bytes:
            self._drained_bytes = drained_bytes
            self._unread_since = now
        elif now - self._unread_since >= limits.unread_seconds_max:
            return "answer_not_read"
        return ""

    def cut_off(self) -> None:
        """Closes the connection now. Bytes that the client has not read are discarded."""
        if self._wire is None:
            return
        if self._wire.get_write_buffer_size():
            self._wire.abort()
        else:
            self.force_close()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Does nothing unless reading is paused. aiohttp would run its parser again: 5 µs for each body."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers a request that cannot be read as HTTP, and an error outside the application."""
        if isinstance(exc, ConnectionError):  # the client left; the application has counted it
            raise exc
        if request.writer.output_size > 0:
            raise ConnectionError("A part of the answer was sent already")
        if status == CODES[Reason.INVALID_ARGUMENT].http:
            # Behind a colon the parser quotes what it read, and that may be a token.
            fault, _, quoted = (message or "").partition(":")
            log.debug("request_unreadable", remote=request.remote, problem=fault)
            if isinstance(exc, LineTooLong) and _BEARER.search(quoted):
                error: ServiceError = token_too_long()
            else:
                error = ServiceError(Reason.INVALID_ARGUMENT, f"The request cannot be read as HTTP: {fault}")
        else:
            log.error("request_failed_outside_application", exc_info=exc)
            error = ServiceError(Reason.INTERNAL)
        request_id = request_id_of(None)
        answer = problem(error, instance="/", request_id=request_id)
        return cast("web.StreamResponse", HttpResponse(answer, request_id=request_id, close=True))


def connections_possible() -> int:
    """How many connections the limit of open files (RLIMIT_NOFILE) allows."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return 1_000_000
    return max(descriptors - DESCRIPTORS_RESERVED, descriptors // 2)
