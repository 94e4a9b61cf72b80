"""A proxy in front of a server on loopback that can be slow to answer, or swallow everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Passes everything on; see the three things it can be told.

    `first_answer_seconds` is how long each connection's first answer is held back, `latency_seconds` how long
    everything is under way in each direction, `silent` swallows all bytes in both directions while the
    connections stay open, as a host that lost its power does.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._tasks: set[asyncio.Task[None]] = set()
        self._sinks: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.first_answer_seconds = 0.0
        self.latency_seconds = 0.0
        self.silent = False

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:  # the server is not there yet
            writer.close()
            return
        for source, sink, pause_seconds in (
            (reader, server_writer, 0.0),
            (server_reader, writer, self.first_answer_seconds),
        ):
            task = asyncio.create_task(self._pass_on(source, sink, pause_seconds))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for sink in list(self._sinks):
            self._close(sink)

    def _close(self, sink: asyncio.StreamWriter) -> None:
        self._sinks.discard(sink)
        sink.close()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, pause_seconds: float
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            try:
                await asyncio.sleep(pause_seconds)
                while data := await source.read(65536):
                    if self.latency_seconds:
                        loop.call_later(self.latency_seconds, sink.write, data)
                    elif not self.silent:
                        sink.write(data)
                        await sink.drain()
            finally:
                self._sinks.add(sink)
                loop.call_later(self.latency_seconds, self._close, sink)


@asynccontextmanager
async def proxying(target_port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(target_port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()
