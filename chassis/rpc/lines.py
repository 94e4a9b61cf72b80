"""Lines to one process. A line is an open stream that carries one message at a time, and then its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from chassis.rpc.faults import LineLostError
from chassis.rpc.wire import CARRY_STREAM
from chassis.time_limits import TimeLimit

IDLE_LINES_MAX = 32
# How long the status of a stream may take to arrive after a write on it has failed.
STATUS_SECONDS_MAX = 0.1
WRITE_FAILED = "Internal error from Core"  # what gRPC itself says of a failed write


class Lines:
    """Opens streams when they are needed, and keeps them for the next message.

    A unary RPC takes three times the CPU and twice the time of a message on an open stream (measured;
    ARCHITECTURE.md). A line is not used again after a message on it failed. Its stream is cancelled, so that
    the other side stops working on the message.
    """

    def __init__(self, channel: grpc.aio.Channel, *, metadata: tuple[tuple[str, str], ...]) -> None:
        self._open: Any = channel.stream_stream(CARRY_STREAM)
        self._metadata = metadata
        self._idle: list[_Line] = []
        self._closed = False

    async def exchange(self, payload: bytes, *, timeout_seconds: float) -> bytes:
        """Sends one message and returns its answer.

        Raises:
            TimeoutError: there was no answer in time.
            LineLostError: the other side ended the stream, for example because it stops.
            Exception: any other error of gRPC; `chassis.rpc.faults` has the meanings.
        """
        line = self._take()
        try:
            with TimeLimit(timeout_seconds):
                await line.write(payload)
                answer = await line.stream.read()
        except BaseException:
            line.stream.cancel()
            raise
        if answer is grpc.aio.EOF:
            raise LineLostError
        if self._closed or len(self._idle) >= IDLE_LINES_MAX:
            line.stream.cancel()
        else:
            self._idle.append(line)
        return bytes(answer)

    def close(self) -> None:
        """Ends the idle lines now, and each other line after its answer."""
        self._closed = True
        while self._idle:
            self._idle.pop().stream.cancel()

    def _take(self) -> _Line:
        while self._idle:
            line = self._idle.pop()
            if not line.stream.done():  # a process that stops ends its streams
                return line
        return _Line(self._open(metadata=self._metadata))


class _Line:
    """A stream, and the status that ended it.

    gRPC sets the status of a stream to INTERNAL when a write fails. The status from the other side may come
    before or after that. It may be an answer: a refusal, or the limit of concurrent RPCs.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._ended = asyncio.Event()
        self._error: grpc.aio.AioRpcError | None = None
        stream.add_done_callback(self._note_status)

    async def write(self, payload: bytes) -> None:
        try:
            await self.stream.write(payload)
        except grpc.aio.AioRpcError:
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_SECONDS_MAX):
                    await self._ended.wait()
            if self._error is not None:
                raise self._error from None
            raise

    def _note_status(self, stream: Any) -> None:
        """Called each time the status is set."""
        code, details = _now(stream.code()), _now(stream.details())
        if code is grpc.StatusCode.INTERNAL and details == WRITE_FAILED:
            return
        if code is not grpc.StatusCode.OK:
            self._error = grpc.aio.AioRpcError(
                code, grpc.aio.Metadata(), _now(stream.trailing_metadata()), details=details
            )
        self._ended.set()


def _now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits: gRPC's getters do not wait once the status is set."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    return None
