"""The health of this process: its readiness checks and its operations pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from chassis.addresses import split_host_port
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import CONTENT_TYPE, Metrics

JSON = "application/json"
CACHE_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 1.0

log = get_logger(__name__)


class NotReadyError(Exception):
    """A check fails. The message says what is missing, and everybody may see it."""


class Page(NamedTuple):
    """An answer that any HTTP server can send."""

    status: int
    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check ended."""

    name: str
    ok: bool
    required: bool
    problem: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    run: Callable[[], Awaitable[object]]
    timeout_seconds: float
    required: bool


class Health:
    """Named checks of the things that the process needs. They run together; results are kept for a second."""

    def __init__(self, *, cache_seconds: float = CACHE_SECONDS) -> None:
        self._cache_seconds = cache_seconds
        self._checks: dict[str, _Check] = {}
        self._draining = False
        self._results: list[CheckResult] = []
        self._fresh_until = float("-inf")
        self._running: asyncio.Task[list[CheckResult]] | None = None

    def add(
        self,
        name: str,
        run: Callable[[], Awaitable[object]],
        *,
        timeout_seconds: float = CHECK_TIMEOUT_SECONDS,
        required: bool = True,
    ) -> None:
        """Add a check: it passes if it returns, and fails if it raises. An optional check is only shown."""
        self._checks[name] = _Check(name, run, timeout_seconds, required)
        self._fresh_until = float("-inf")

    def drain(self) -> None:
        """Answer "not ready" from now on, so that a stopping process gets no new requests."""
        self._draining = True

    @property
    def draining(self) -> bool:
        return self._draining

    async def results(self) -> list[CheckResult]:
        """The result of each check, at most `cache_seconds` old. Concurrent callers share one run."""
        if time.monotonic() >= self._fresh_until:
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._run_all(), name="health checks")
            return await asyncio.shield(self._running)
        return self._results

    def is_ready(self, results: list[CheckResult]) -> bool:
        """Whether, with these results, this process may get requests."""
        return not self._draining and all(result.ok or not result.required for result in results)

    async def _run_all(self) -> list[CheckResult]:
        results = list(await asyncio.gather(*(_run(check) for check in self._checks.values())))
        self._log_changes(results)
        self._results = results
        self._fresh_until = time.monotonic() + self._cache_seconds
        return results

    def _log_changes(self, results: list[CheckResult]) -> None:
        before = {result.name: result.ok for result in self._results}
        for result in results:
            if not result.ok and before.get(result.name, True):
                log.warning("health_check_failed", check=result.name, problem=result.problem)
            elif result.ok and not before.get(result.name, True):
                log.info("health_check_recovered", check=result.name)


async def _run(check: _Check) -> CheckResult:
    started = time.monotonic()
    problem = ""
    try:
        async with asyncio.timeout(check.timeout_seconds):
            await check.run()
    except NotReadyError as error:
        problem = str(error) or "not ready"
    except TimeoutError:
        problem = f"no answer within {check.timeout_seconds:g} s"
    except Exception as error:
        # Only the type is shown: the text of a driver's error may contain hosts and users.
        problem = type(error).__name__
        log.debug("health_check_raised", check=check.name, exc_info=True)
    return CheckResult(check.name, not problem, check.required, problem, time.monotonic() - started)


class OpsPages:
    """The pages `/livez`, `/readyz`, `/version` and `/metrics`, for any HTTP server."""

    def __init__(self, *, service: str, version: str, health: Health, metrics: Metrics) -> None:
        self._service = service
        self._version = version
        self._health = health
        self._metrics = metrics
        self._pages: dict[str, Callable[[], Awaitable[Page]]] = {
            "/livez": self.livez,
            "/readyz": self.readyz,
            "/version": self.version,
            "/metrics": self.metrics,
        }

    async def get(self, path: str) -> Page | None:
        """The page at a path, or None when it is not one of these."""
        page = self._pages.get(path)
        return None if page is None else await page()

    async def livez(self) -> Page:
        """200 while the event loop runs; it checks nothing else."""
        return _json(200, {"status": "alive", "service": self._service})

    async def readyz(self) -> Page:
        """200 when every required check passes and the process is not stopping, else 503."""
        results = await self._health.results()
        ready = self._health.is_ready(results)
        status = "ready" if ready else "stopping" if self._health.draining else "not ready"
        checks = [
            {"name": result.name, "ok": result.ok, "required": result.required}
            | ({} if result.ok else {"problem": result.problem})
            | {"milliseconds": round(result.seconds * 1000, 1)}
            for result in results
        ]
        return _json(200 if ready else 503, {"status": status, "service": self._service, "checks": checks})

    async def version(self) -> Page:
        return _json(200, {"service": self._service, "version": self._version})

    async def metrics(self) -> Page:
        return Page(200, self._metrics.render(), CONTENT_TYPE)


def _json(status: int, value: dict[str, Any]) -> Page:
    return Page(status, orjson.dumps(value), JSON)


class OpsServer:
    """A small HTTP server for the operations pages, on a port of its own."""

    def __init__(self, *, bind: str, pages: OpsPages) -> None:
        self._host, self._port = split_host_port(bind)
        self._pages = pages
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen; raises OSError when the address is in use."""
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=1.0)
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await self.stop()
            raise
        self._port = runner.addresses[0][1]

    @property
    def port(self) -> int:
        """The port of the server; the system chooses it when the bind address has port 0."""
        return self._port

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        page = await self._pages.get(request.path)
        if page is None:
            return web.Response(status=404, text="there are /livez /readyz /version /metrics\n")
        return web.Response(
            status=page.status,
            body=page.body,
            headers={"Content-Type": page.content_type, "Cache-Control": "no-store"},
        )
