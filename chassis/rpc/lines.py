"""Lines to one process: streams that carry a message and then its answer, one at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from chassis.rpc.faults import LineLostError
from chassis.rpc.wire import CARRY_STREAM

IDLE_LINES_MAX = 32
# How long the status of a stream may take to arrive after a write on it has failed.
STATUS_SECONDS_MAX = 0.1
STATUS_POLL_SECONDS = 0.001


class Lines:
    """Opens streams as they are needed, and keeps them for the next message.

    A unary RPC for each message takes three times the CPU and twice the time of a message on an open stream
    (measured; ARCHITECTURE.md). A line whose message failed is not used again: the stream is cancelled, which
    tells the other side to stop working on the message.
    """

    def __init__(self, channel: grpc.aio.Channel, *, metadata: tuple[tuple[str, str], ...]) -> None:
        self._open: Any = channel.stream_stream(CARRY_STREAM)
        self._metadata = metadata
        self._idle: list[Any] = []
        self._closed = False

    async def exchange(self, payload: bytes, *, timeout_seconds: float) -> bytes:
        """Sends one message and returns its answer.

        Raises:
            TimeoutError: there was no answer in time.
            LineLostError: the other side has ended the stream, as it does when it stops.
            Exception: whatever else gRPC raises; `chassis.rpc.faults` says what it means.
        """
        line = self._take()
        try:
            async with asyncio.timeout(timeout_seconds):
                await _write(line, payload)
                answer = await line.read()
        except BaseException:
            line.cancel()
            raise
        if answer is grpc.aio.EOF:
            raise LineLostError
        if self._closed or len(self._idle) >= IDLE_LINES_MAX:
            line.cancel()
        else:
            self._idle.append(line)
        return bytes(answer)

    def close(self) -> None:
        """Ends the idle lines now, and the others after their answers."""
        self._closed = True
        while self._idle:
            self._idle.pop().cancel()

    def _take(self) -> Any:
        while self._idle:
            line = self._idle.pop()
            if not line.done():  # a process that stops ends its streams
                return line
        return self._open(metadata=self._metadata)


async def _write(line: Any, payload: bytes) -> None:
    try:
        await line.write(payload)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INTERNAL:
            raise
        # gRPC reports every failed write as INTERNAL at once. The status that has ended the stream arrives
        # after that, and it may be an answer: a refusal, or the limit of concurrent RPCs.
        with suppress(TimeoutError):
            async with asyncio.timeout(STATUS_SECONDS_MAX):
                while await line.code() is grpc.StatusCode.INTERNAL:  # noqa: ASYNC110 - gRPC has no event for it
                    await asyncio.sleep(STATUS_POLL_SECONDS)
        await line.read()  # raises what the status says
        raise
