"""The HTTP listener: it opens the port, and serves the application on every connection."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from chassis.addresses import split_host_port
from gateway.application import Application
from gateway.arrivals import Arrival
from gateway.connections import Connection, Connections
from gateway.quick_refusals import QuickRefusals

HEADER_BYTES_MAX = 8190
HEADERS_MAX = 100
IDLE_SECONDS_MAX = 75.0
# How long the rest of a refused body is read and discarded, so that the client can read the refusal.
LINGERING_SECONDS = 2.0
BACKLOG = 1024


class Listener:
    """Serves an application over HTTP/1.1.

    Args:
        bind: host:port; port 0 takes a free port, and `port` is then its number.
        quick: refuses requests before they are parsed, while the gateway is crowded.
        grace_seconds: how long requests in flight may take to finish when the process stops.
        idle_seconds_max: how long a connection may be silent between two requests.
    """

    def __init__(
        self,
        *,
        bind: str,
        application: Application,
        connections: Connections,
        quick: QuickRefusals,
        grace_seconds: float,
        idle_seconds_max: float = IDLE_SECONDS_MAX,
    ) -> None:
        self._host, self._port = split_host_port(bind)
        self._application = application
        self._connections = connections
        self._quick = quick
        self._grace_seconds = grace_seconds
        self._idle_seconds_max = idle_seconds_max
        self._runner: web.ServerRunner | None = None

    @property
    def port(self) -> int:
        return self._port

    async def start(self) -> None:
        """Listens; raises OSError when the address is in use."""
        server = _Server(
            self._application.handle,
            connections=self._connections,
            quick=self._quick,
            access_log=None,
            keepalive_timeout=self._idle_seconds_max,
            lingering_time=LINGERING_SECONDS,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            auto_decompress=False,
        )
        runner = web.ServerRunner(server, shutdown_timeout=self._grace_seconds)
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, self._host, self._port, backlog=BACKLOG).start()
        except OSError:
            await self.stop()
            raise
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Accepts no more requests, and lets those in flight finish."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()


class _Server(web.Server):
    def __init__(
        self, handler: Any, *, connections: Connections, quick: QuickRefusals, **options: Any
    ) -> None:
        super().__init__(handler, **options)
        self._client_connections = connections
        self._quick = quick

    def __call__(self) -> Arrival:  # type: ignore[override]  # it makes the handler later
        return Arrival(connections=self._client_connections, make=self._connection)

    def pre_shutdown(self) -> None:
        """Closes the connections without a request."""
        super().pre_shutdown()
        self._client_connections.cut_off(Arrival)

    def _connection(self) -> Connection:
        return Connection(
            self, connections=self._client_connections, quick=self._quick, loop=self._loop, **self._kwargs
        )
