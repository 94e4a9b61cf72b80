"""One HTTP request from its first header to its answer: who, what, until when, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from opentelemetry.trace import SpanKind

from chassis.context import Context
from chassis.rpc.client import Upstream
from chassis.errors import Reason, ServiceError
from chassis.telemetry.health import OpsPages
from chassis.telemetry.logs import bind_request, get_logger
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import RequestSpan, Tracing
from gateway.answers import REPLAYED, Answer, HttpResponse
from gateway.authentication import Authenticator
from gateway.bodies import read_body
from gateway.keys import IDEMPOTENCY_KEY, idempotency_key
from gateway.problems import HttpRefusal, problem
from gateway.request_headers import REQUEST_ID, REQUEST_TIMEOUT, request_id_of, timeout_seconds_of
from gateway.request_log import RequestLog
from gateway.routes import Place, Route, RouteTable

IN_FLIGHT_MAX = 4096
# As in the services: completions and answers still enter when everything else is refused.
SHED_LAST_HEADROOM = 1.25
UNROUTED = "unrouted"
NO_CONTENT = 204

log = get_logger(__name__)


@dataclass(slots=True)
class _Exchange:
    """A request and what is known of it so far."""

    request: web.BaseRequest
    request_id: str
    path: str
    query: str
    began: float
    metered_as: str = UNROUTED
    span: RequestSpan | None = None


class Application:
    """Answers HTTP requests by calling the services.

    Args:
        upstreams: the process that answers, by the short name of the proto package.
        draining: whether the process is about to stop, so that clients should go elsewhere.
        log_every_request: also those that were answered quickly and without a fault of ours.
        in_flight_max: requests under way at once; more are refused as OVERLOADED, quickly.
    """

    def __init__(
        self,
        *,
        routes: RouteTable,
        authenticator: Authenticator,
        upstreams: Mapping[str, Upstream],
        pages: OpsPages,
        tracing: Tracing,
        metrics: Metrics,
        draining: Callable[[], bool],
        log_every_request: bool = False,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> None:
        self._routes = routes
        self._authenticator = authenticator
        self._upstreams = upstreams
        self._pages = pages
        self._tracing = tracing
        self._metrics = metrics
        self._draining = draining
        self._log = RequestLog(every_request=log_every_request)
        self._in_flight = 0
        self._in_flight_max = in_flight_max
        metrics.gauge("requests_in_flight", "Requests being worked on", lambda: float(self._in_flight))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers anything; raises only when there is nobody left to answer."""
        path, _, query = request.raw_path.partition("?")
        exchange = _Exchange(
            request=request,
            request_id=request_id_of(request.headers.get(REQUEST_ID)),
            path=path,
            query=query,
            began=time.monotonic(),
        )
        bind_request(exchange.request_id)
        self._in_flight += 1
        try:
            answer = await self._answer(exchange)
        except ServiceError as error:
            answer = problem(error, instance=path, request_id=exchange.request_id)
        except ConnectionError:  # the client left before its whole request had come
            raise
        except Exception:
            log.exception("request failed", http_method=request.method, path=path)
            internal = ServiceError(Reason.INTERNAL)
            answer = problem(internal, instance=path, request_id=exchange.request_id)
        finally:
            self._in_flight -= 1
        self._record(exchange, answer)
        response = HttpResponse(answer, request_id=exchange.request_id, close=self._draining())
        return cast("web.StreamResponse", response)

    async def _answer(self, exchange: _Exchange) -> Answer:
        place = self._routes.find(exchange.path)
        if place is None:
            return await self._page(exchange)
        http_method = exchange.request.method
        route = place.routes.get("GET" if http_method == "HEAD" else http_method)
        if route is None:
            return _without_route(http_method, place.allowed())
        exchange.metered_as = route.method.path
        exchange.span = self._tracing.begin(
            route.name, traceparent=exchange.request.headers.get("traceparent", ""), kind=SpanKind.SERVER
        )
        return await self._call(exchange, place, route, exchange.span.traceparent)

    async def _call(self, exchange: _Exchange, place: Place, route: Route, traceparent: str) -> Answer:
        method, headers = route.method, exchange.request.headers
        limit = self._in_flight_max * (SHED_LAST_HEADROOM if method.shed_last else 1.0)
        if self._in_flight > limit:
            raise ServiceError(Reason.OVERLOADED)
        principal = await self._authenticator.authenticate(headers.get("Authorization"))
        if method.roles.isdisjoint(principal.roles):
            raise ServiceError(Reason.PERMISSION_DENIED, "The token's roles do not allow this")
        key = idempotency_key(headers.getall(IDEMPOTENCY_KEY, ())) if method.key_required else ""
        timeout_seconds = timeout_seconds_of(headers.get(REQUEST_TIMEOUT))
        body = await read_body(exchange.request, timeout_seconds=timeout_seconds)
        message = route.request.read(body=body, values=place.values, query=exchange.query)
        reply = await self._upstreams[route.upstream].call(
            method.path,
            message,
            Context(
                method=method.path,
                user_id=principal.user_id,
                roles=principal.roles,
                idempotency_key=key,
                request_id=exchange.request_id,
                deadline=exchange.began + timeout_seconds,
                traceparent=traceparent,
            ),
        )
        status, body = route.response.write(reply.message)
        return Answer(status, body, headers=REPLAYED if reply.replayed else ())

    async def _page(self, exchange: _Exchange) -> Answer:
        """One of the pages for supervisors; they need no token."""
        page = await self._pages.get(exchange.path)
        if page is None:
            raise ServiceError(Reason.NOT_FOUND, "There is nothing at this path")
        exchange.metered_as = exchange.path
        if exchange.request.method not in {"GET", "HEAD"}:
            return _without_route(exchange.request.method, "GET, HEAD, OPTIONS")
        return Answer(page.status, page.body, content_type=page.content_type)

    def _record(self, exchange: _Exchange, answer: Answer) -> None:
        if exchange.span is not None:
            if exchange.span.sampled:
                _describe(exchange.span, exchange, answer)
            exchange.span.end()
        seconds = time.monotonic() - exchange.began
        self._metrics.observe_call(exchange.metered_as, answer.code, seconds)
        if self._log.wants(answer.status, seconds):
            self._log.write(
                status=answer.status,
                seconds=seconds,
                http_method=exchange.request.method,
                path=exchange.path,
                method=exchange.metered_as,
                code=answer.code,
                idempotency_key=exchange.request.headers.get(IDEMPOTENCY_KEY),
            )


def _describe(span: RequestSpan, exchange: _Exchange, answer: Answer) -> None:
    """OpenTelemetry's names for an HTTP server's span; only what is our fault counts as an error there."""
    span.set("http.request.method", exchange.request.method)
    span.set("url.path", exchange.path)
    span.set("http.response.status_code", answer.status)
    span.set("homeroom.request_id", exchange.request_id)
    if answer.headers == REPLAYED:
        span.set("homeroom.replayed", value=True)
    if answer.status >= 500:
        span.error(answer.code)


def _without_route(http_method: str, allowed: str) -> Answer:
    if http_method == "OPTIONS":
        return Answer(NO_CONTENT, b"", headers=(("Allow", allowed),))
    raise HttpRefusal(
        Reason.METHOD_NOT_ALLOWED, f"Only {allowed} can be used here", headers=(("Allow", allowed),)
    )
