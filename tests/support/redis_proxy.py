"""A TCP proxy in front of a Redis on a Unix socket that can be slow to answer, or be down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class RedisProxy:
    """Passes everything on. `delay_seconds` holds each answer back; `down` cuts and refuses connections."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.delay_seconds = 0.0
        self._down = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        if down:
            self.cut()

    def cut(self) -> None:
        """Cut all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
        self._writers |= {writer, server_writer}
        for source, sink, answers in ((reader, server_writer, False), (server_reader, writer, True)):
            task = asyncio.create_task(self._pass_on(source, sink, answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool) -> None:
        with suppress(ConnectionError):
            try:
                while data := await source.read(65536):
                    if answers and self.delay_seconds:
                        await asyncio.sleep(self.delay_seconds)
                    sink.write(data)
                    await sink.drain()
            finally:
                self._writers.discard(sink)
                sink.close()


@asynccontextmanager
async def redis_proxying(socket: str) -> AsyncIterator[RedisProxy]:
    proxy = RedisProxy(socket)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()
