"""Lines to one process: streams that carry a message and then its answer, one at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from chassis.rpc.wire import CARRY_STREAM

IDLE_LINES_MAX = 32


class LineLostError(Exception):
    """The other side has ended the stream and sent no answer; whether it read the message is not known."""


class Lines:
    """Opens streams as they are needed, and keeps them for the next message.

    A unary RPC for each message takes three times the CPU and twice the time of a message on an open stream
    (measured; ARCHITECTURE.md). A line whose message has come to a bad end is not used again: cancelling its
    stream tells the other side to stop working on it.
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
            grpc.aio.AioRpcError: the stream failed, or was refused.
        """
        line = self._take()
        try:
            async with asyncio.timeout(timeout_seconds):
                await line.write(payload)
                answer = await line.read()
        except asyncio.InvalidStateError as error:  # it ended after it was taken
            raise LineLostError from error
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
        """Ends the lines that nobody uses, and the others after their answers."""
        self._closed = True
        while self._idle:
            self._idle.pop().cancel()

    def _take(self) -> Any:
        while self._idle:
            line = self._idle.pop()
            if not line.done():  # a process that stops ends its streams
                return line
        return self._open(metadata=self._metadata)
