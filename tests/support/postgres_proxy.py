"""A proxy in front of PostgreSQL that loses exactly the message which a test is about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from urllib.parse import parse_qs, urlsplit


class Loss(Enum):
    """What happens to the next message of a client that contains the watched bytes."""

    REQUEST = auto()  # the connection is cut, the server never hears of it
    ANSWER = auto()  # the server answers, and the connection is cut before the client hears of it
    SILENCE = auto()  # the server answers, the client hears nothing any more, and the connection stays open


class PostgresProxy:
    """Passes everything on until it is told to lose something; each order is carried out once."""

    def __init__(self, upstream_dsn: str) -> None:
        self._upstream = urlsplit(upstream_dsn)
        query = parse_qs(self._upstream.query)
        self._socket_path = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._order: tuple[bytes, Loss] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._port = 0
        self.refuse = False  # new connections are closed at once
        self.refused = 0
        self.lost = 0
        self.client_messages: list[bytes] = []

    @property
    def dsn(self) -> str:
        credentials = self._upstream.netloc.rpartition("@")[0]
        return f"postgresql://{credentials}@127.0.0.1:{self._port}{self._upstream.path}"

    def lose(self, watched: bytes, loss: Loss) -> None:
        self._order = (watched, loss)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PostgresProxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in list(self._connections):
                connection.cancel()
            if self._connections:
                await asyncio.wait(self._connections)
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        server_writer = None
        try:
            if self.refuse:
                self.refused += 1
                return
            server_reader, server_writer = await asyncio.open_unix_connection(self._socket_path)
            await self._carry(reader, writer, server_reader, server_writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, server_writer):
                if each is not None:
                    each.close()
            self._connections.discard(task)

    async def _carry(
        self,
        client_reader: asyncio.StreamReader,
        client_writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        loss: Loss | None = None

        async def requests() -> None:
            nonlocal loss
            while data := await client_reader.read(65536):
                self.client_messages.append(data)
                if self._order is not None and self._order[0] in data:
                    loss = self._order[1]
                    self._order = None
                    self.lost += 1
                    if loss is Loss.REQUEST:
                        return
                server_writer.write(data)
                await server_writer.drain()

        async def answers() -> None:
            while data := await server_reader.read(65536):
                if loss is Loss.ANSWER:
                    return
                if loss is not Loss.SILENCE:
                    client_writer.write(data)
                    await client_writer.drain()

        directions = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await direction
