"""The HTTP listener: aiohttp's protocol with our limits, and with problems where it would answer in text."""

from __future__ import annotations

from typing import cast

from aiohttp import web

from chassis.addresses import split_host_port
from chassis.errors import Reason, ServiceError
from chassis.rpc.reasons import CODES
from chassis.telemetry.logs import get_logger
from gateway.answers import HttpResponse
from gateway.application import Application
from gateway.problems import problem
from gateway.request_headers import request_id_of

HEADER_BYTES_MAX = 8190
HEADERS_MAX = 100
IDLE_SECONDS_MAX = 75.0
# How long what is left of a refused body is read and thrown away, so that the client sees the refusal.
LINGERING_SECONDS = 2.0
BACKLOG = 1024

log = get_logger(__name__)


class Listener:
    """Serves an application over HTTP/1.1.

    Args:
        bind: host:port; port 0 takes a free one, which `port` then tells.
        grace_seconds: how long requests under way may take to finish once the end has come.
        idle_seconds_max: how long a connection may be silent, and a request without all its headers.
    """

    def __init__(
        self,
        *,
        bind: str,
        application: Application,
        grace_seconds: float,
        idle_seconds_max: float = IDLE_SECONDS_MAX,
    ) -> None:
        self._host, self._port = split_host_port(bind)
        self._application = application
        self._grace_seconds = grace_seconds
        self._idle_seconds_max = idle_seconds_max
        self._runner: web.ServerRunner | None = None

    @property
    def port(self) -> int:
        return self._port

    async def start(self) -> None:
        """Listen; raises OSError when the address is taken."""
        server = _Server(
            self._application.handle,
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
        """Takes no more requests, and lets those under way finish."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Protocol(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what is not HTTP that can be read, and what went wrong outside the application."""
        if request.writer.output_size > 0:
            raise ConnectionError("A part of the answer is sent already")
        if status == CODES[Reason.INVALID_ARGUMENT].http:
            log.debug("request unreadable", remote=request.remote, problem=message)
            error = ServiceError(Reason.INVALID_ARGUMENT, f"The request cannot be read as HTTP: {message}")
        else:
            log.error("request failed outside the application", exc_info=exc)
            error = ServiceError(Reason.INTERNAL)
        request_id = request_id_of(None)
        answer = problem(error, instance="/", request_id=request_id)
        return cast("web.StreamResponse", HttpResponse(answer, request_id=request_id, close=True))
