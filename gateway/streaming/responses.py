"""The answer of a server-streaming method: events, until the stream ends or the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from http import HTTPMethod
from typing import Any, Protocol, cast

import orjson
from aiohttp import HttpVersion11, web
from aiohttp.http import StreamWriter

from chassis.errors import Reason, ServiceError
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import CANCELLED
from gateway.answers import OK, Answer, head_of
from gateway.problems import problem
from gateway.streaming.events import CLOSING, COMMENT, CONTENT_TYPE, END, PROBLEM, EventWriter, event
from gateway.streaming.streams import TOLD, Ending, Seat, retry_ms

log = get_logger(__name__)

_HEAD = HTTPMethod.HEAD.value
_ANSWER = Answer(200, b"", content_type=CONTENT_TYPE)
# nginx collects an answer before it sends it on, unless it is told not to.
_UNBUFFERED = "X-Accel-Buffering: no\r\n"


class EventStream:
    """Sends the messages of a stream as events, in the shape that aiohttp's protocol calls (`HttpResponse`).

    One message at a time is taken from the service, and only when the last one was handed to the transport,
    so a slow client slows the service down and takes no memory here.

    Args:
        messages: the stream. It is closed with this object, which cancels the call at the service.
        writer: makes events from messages.
        seat: its seat among the open streams.
        connection: the client's connection.
        instance, request_id: for a problem.
        lines: more header lines, each with its line end.
        finished: is called once, with the code of the call and, if it failed, the problem.
    """

    keep_alive = False

    def __init__(
        self,
        *,
        messages: AsyncGenerator[Any],
        writer: EventWriter,
        seat: Seat,
        connection: StreamConnection,
        instance: str,
        request_id: str,
        lines: str,
        finished: Callable[[str, Answer | None], object],
    ) -> None:
        self._messages = messages
        self._event_of = writer.write
        self._seat = seat
        self._connection = connection
        self._instance = instance
        self._request_id = request_id
        self._lines = lines
        self._finished: Callable[[str, Answer | None], object] | None = finished
        self._next: asyncio.Future[Any] | None = None
        self._chunked = True
        connection.on_lost = lambda: seat.end(Ending.LEFT)

    async def open(self, *, seconds_max: float) -> None:
        """Waits for the first message, or the end of the stream.

        Raises:
            ServiceError: the refusal of the service, or DEADLINE_EXCEEDED. This object is closed then.
        """
        if self._seat.ended.done():  # the process stops: the service is not called any more
            return
        self._next = self._read()
        try:
            done, _ = await asyncio.wait(
                {self._next, self._seat.ended}, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED
            )
            if self._next in done:
                self._next.result()
        except BaseException:
            await self._refused()
            raise
        if not done:
            await self._refused()
            raise ServiceError(Reason.DEADLINE_EXCEEDED)

    async def prepare(self, request: web.BaseRequest) -> None:
        """Sends the events; raises ConnectionError when the client has left."""
        cause, code, failure = Ending.LEFT, CANCELLED, None
        try:
            self._chunked = request.version >= HttpVersion11
            lines = self._lines + _UNBUFFERED + ("Transfer-Encoding: chunked\r\n" if self._chunked else "")
            await self._write(
                request, head_of(_ANSWER, request_id=self._request_id, lines=lines, http_1_1=self._chunked)
            )
            if request.method == _HEAD:
                cause, code = Ending.COMPLETE, OK
                return
            cause, failure = await self._send_events(request)
            code = OK if failure is None else failure.code
            if cause in {Ending.LEFT, Ending.NOT_READ}:
                code = CANCELLED
                if cause is Ending.NOT_READ:
                    self._connection.cut_off()
                raise ConnectionResetError("The client left, or does not read")
            await self._write_last(request, cause, failure)
        finally:
            await self.close(cause, code, failure)

    async def write_eof(self) -> None:
        """Does nothing: `prepare` has written everything."""

    async def close(self, cause: Ending, code: str = CANCELLED, failure: Answer | None = None) -> None:
        """Ends the call at the service, and gives the seat back; a second call does nothing."""
        self._connection.on_lost = None
        self._seat.leave(cause)
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(code, failure)
        reading, self._next = self._next, None
        if reading is not None:
            reading.cancel()
            # `wait` swallows what the message, the refusal or the cancellation was.
            await asyncio.wait({reading})
            if not reading.cancelled():
                reading.exception()
        with suppress(ServiceError):
            await self._messages.aclose()

    async def _refused(self) -> None:
        self._finished = None  # the caller counts a refusal
        await self.close(Ending.FAILED)

    def _read(self) -> asyncio.Future[Any]:
        return asyncio.ensure_future(anext(self._messages, None))

    async def _send_events(self, request: web.BaseRequest) -> tuple[Ending, Answer | None]:
        """Sends events until there are no more; returns why, and the problem if the stream failed."""
        while True:
            ended, reading = self._seat.ended, self._next
            if reading is not None and not reading.done() and not ended.done():
                await asyncio.wait(
                    {reading, ended},
                    timeout=self._seat.limits.comment_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            if reading is None or ended.done():
                return await ended, None
            text = COMMENT
            if reading.done():
                read = self._text_of(reading)
                if not isinstance(read, bytes):
                    return (Ending.COMPLETE if read is None else Ending.FAILED), read
                text, self._next = read, None
            if not await self._send(request, text):
                return Ending.NOT_READ, None
            self._next = self._next or self._read()

    def _text_of(self, reading: asyncio.Future[Any]) -> bytes | Answer | None:
        """The event of what was read; the problem of a stream that failed; None for one that has ended."""
        try:
            message = reading.result()
            return None if message is None else self._event_of(message)
        except ServiceError as error:
            return self._problem(error)
        except Exception:
            log.exception("stream_failed", path=self._instance)
            return self._problem(ServiceError(Reason.INTERNAL))

    async def _send(self, request: web.BaseRequest, text: bytes) -> bool:
        """Writes a part of the body; False if the client has not read enough of it in time.

        Raises:
            ConnectionError: the client left.
        """
        if self._chunked:
            text = b"%x\r\n%s\r\n" % (len(text), text)
        await self._write(request, text)
        if not self._connection.writing_paused:
            return True
        draining = asyncio.ensure_future(request.writer.drain())
        either: set[asyncio.Future[Any]] = {draining, self._seat.ended}
        try:
            await asyncio.wait(
                either, timeout=self._seat.limits.write_seconds_max, return_when=asyncio.FIRST_COMPLETED
            )
            if draining.done():
                draining.result()
                return True
            return False
        finally:
            draining.cancel()

    async def _write(self, request: web.BaseRequest, text: bytes) -> None:
        self._connection.sent_bytes += len(text)
        # Without `drain=False` aiohttp itself waits for a client that does not read, and without a limit.
        await cast(StreamWriter, request.writer).write(text, drain=False)

    async def _write_last(self, request: web.BaseRequest, cause: Ending, failure: Answer | None) -> None:
        """Tells the client why the stream ends."""
        if failure is not None:
            text = event(name=PROBLEM, data=failure.body)
        elif cause in TOLD:
            text = event(name=CLOSING, data=orjson.dumps({"reason": cause}), retry_ms=retry_ms())
        else:
            text = event(name=END, data=b"{}")
        await self._send(request, text)
        if self._chunked:
            await self._write(request, b"0\r\n\r\n")

    def _problem(self, error: ServiceError) -> Answer:
        return problem(error, instance=self._instance, request_id=self._request_id)


class StreamConnection(Protocol):
    """The part of a connection that a stream needs."""

    sent_bytes: int
    on_lost: Callable[[], object] | None

    @property
    def writing_paused(self) -> bool: ...

    def cut_off(self) -> None: ...


def connection_of(request: web.BaseRequest) -> StreamConnection:
    """The connection of a request."""
    return cast("StreamConnection", request.protocol)
