"""One HTTP request, from its headers to its answer: route, caller, body, call, metrics, trace and log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from google.protobuf.message import Message
from opentelemetry.trace import SpanKind

from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.rpc.client import Upstream
from chassis.rpc.methods import Method
from chassis.telemetry.health import OpsPages
from chassis.telemetry.logs import bind_request, get_logger
from chassis.telemetry.metrics import CANCELLED, Metrics
from chassis.telemetry.tracing import RequestSpan, Tracing
from gateway.admission import Admission, Place
from gateway.answers import REPLAYED, Answer, HttpResponse
from gateway.authentication import Authenticator
from gateway.bodies import BodyReader
from gateway.client_address import ClientAddresses
from gateway.connections import Connection
from gateway.cors import Cors
from gateway.csv_answers import csv_answer, prefers_csv
from gateway.documents.pages import Pages
from gateway.keys import IDEMPOTENCY_KEY, idempotency_key
from gateway.networks import Networks
from gateway.problems import HttpRefusal, problem
from gateway.rate_limits import RateLimits
from gateway.request_headers import (
    IF_MATCH,
    REQUEST_ID,
    REQUEST_TIMEOUT,
    request_id_of,
    timeout_seconds_of,
    version_of,
)
from gateway.request_log import RequestLog
from gateway.routes import Route, RouteTable

AUTHORIZATION = "Authorization"
UNROUTED = "unrouted"
NO_CONTENT = 204
# The other pages of the chassis are on the operations port.
PUBLIC_PAGES = frozenset({"/livez", "/readyz"})

log = get_logger(__name__)


@dataclass(slots=True)
class _Exchange:
    """A request, and the values that are known so far."""

    request: web.BaseRequest
    request_id: str
    path: str
    query: str
    began: float
    metered_as: str = UNROUTED
    idempotency_key: str = ""
    span: RequestSpan | None = None
    address: str = ""
    lines: str = ""
    place: Place | None = None

    @property
    def client_has_left(self) -> bool:
        transport = self.request.transport
        return transport is None or transport.is_closing()


class Application:
    """Answers HTTP requests by calling the services.

    Args:
        upstreams: the client of each service, by the short name of the proto package.
        trace_callers: the callers whose `traceparent` decides what is recorded; others are only linked.
        draining: whether the process is about to stop, so that connections are closed after their answers.
        log_every_request: also log the requests that were answered quickly and without a fault of ours.
    """

    def __init__(
        self,
        *,
        routes: RouteTable,
        authenticator: Authenticator,
        cors: Cors,
        rate_limits: RateLimits,
        addresses: ClientAddresses,
        admission: Admission,
        bodies: BodyReader,
        upstreams: Mapping[str, Upstream],
        pages: OpsPages,
        documents: Pages,
        tracing: Tracing,
        trace_callers: Networks,
        metrics: Metrics,
        draining: Callable[[], bool],
        log_every_request: bool = False,
    ) -> None:
        self._routes = routes
        self._authenticator = authenticator
        self._cors = cors
        self._rate_limits = rate_limits
        self._addresses = addresses
        self._admission = admission
        self._bodies = bodies
        self._upstreams = upstreams
        self._pages = pages
        self._documents = documents
        self._tracing = tracing
        self._trace_callers = trace_callers
        self._metrics = metrics
        self._draining = draining
        self._log = RequestLog(every_request=log_every_request)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers every request; raises ConnectionError when the client has left."""
        path, _, query = request.raw_path.partition("?")
        exchange = _Exchange(
            request=request,
            request_id=request_id_of(request.headers.get(REQUEST_ID)),
            path=path,
            query=query,
            began=time.monotonic(),
        )
        bind_request(exchange.request_id)
        try:
            answer = await self._answer(exchange)
        except ServiceError as error:
            answer = problem(error, instance=path, request_id=exchange.request_id)
        except (ConnectionError, asyncio.CancelledError):
            self._forget(exchange)
            raise
        except Exception:
            log.exception("request_failed", http_method=request.method, path=path)
            internal = ServiceError(Reason.INTERNAL)
            answer = problem(internal, instance=path, request_id=exchange.request_id)
        if exchange.client_has_left:
            self._forget(exchange)
            raise ConnectionResetError("The client left")
        self._record(exchange, answer)
        if self._cors.enabled:
            exchange.lines += self._cors.lines(
                request.headers.get("Origin", ""), preflight=request.method == "OPTIONS"
            )
        response = HttpResponse(
            answer,
            request_id=exchange.request_id,
            close=self._draining(),
            place=exchange.place,
            lines=exchange.lines,
        )
        return cast("web.StreamResponse", response)

    async def _answer(self, exchange: _Exchange) -> Answer:
        request = exchange.request
        exchange.address = self._addresses.find(
            request.headers,
            peer=request.remote,
            peer_address=cast("Connection", request.protocol).address,
        )
        if exchange.path not in PUBLIC_PAGES:
            self._rate_limits.take_address(exchange.address)
        place = self._routes.find(exchange.path)
        if place is None:
            return await self._page(exchange)
        http_method = exchange.request.method
        route = place.routes.get("GET" if http_method == "HEAD" else http_method)
        if route is None:
            return _without_route(http_method, place.allowed())
        exchange.metered_as = route.method.path
        return await self._call(exchange, route, place.values)

    async def _call(self, exchange: _Exchange, route: Route, path_values: Sequence[str]) -> Answer:
        method, headers = route.method, exchange.request.headers
        door = self._admission.door(route.upstream, method)
        door.refuse_if_full()
        authorization: Sequence[str] = headers.getall(AUTHORIZATION, ())
        message: Message | None = None
        if route.body_token is not None and not authorization:
            # Nobody is known yet, so the body counts for the address. The ids of learners are printable.
            owner = f"\0{exchange.address}"
            timeout_seconds = timeout_seconds_of(headers.get(REQUEST_TIMEOUT))
            body = await self._body(exchange, method, owner=owner, timeout_seconds=timeout_seconds)
            message = route.request.read(body=body, values=path_values, query=exchange.query)
            authorization = route.body_token.take(message)
        principal = await self._authenticator.authenticate(authorization)
        exchange.lines = self._rate_limits.take_user(principal.user_id)
        if method.roles.isdisjoint(principal.roles):
            raise ServiceError(Reason.PERMISSION_DENIED, "The token's roles do not allow this")
        span = exchange.span = self._begin_span(exchange.request, route)
        if method.key_required:
            exchange.idempotency_key = idempotency_key(headers.getall(IDEMPOTENCY_KEY, ()))
        version = None
        if not method.safe:
            version = version_of(headers.getall(IF_MATCH, ()), supported=route.request.takes_version)
        timeout_seconds = timeout_seconds_of(headers.get(REQUEST_TIMEOUT))
        body = b""
        if message is None:
            owner = principal.user_id
            body = await self._body(exchange, method, owner=owner, timeout_seconds=timeout_seconds)
        exchange.place = await door.enter(learner=principal.user_id, address=exchange.address)
        if message is None:
            message = route.request.read(body=body, values=path_values, query=exchange.query, version=version)
            if route.body_token is not None:
                route.body_token.take(message)
        reply = await self._upstreams[route.upstream].call(
            method.path,
            message,
            Context(
                method=method.path,
                user_id=principal.user_id,
                roles=principal.roles,
                idempotency_key=exchange.idempotency_key,
                request_id=exchange.request_id,
                deadline=exchange.began + timeout_seconds,
                traceparent=span.traceparent,
            ),
        )
        if route.table is not None and prefers_csv(headers.getall("Accept", ())):
            return csv_answer(route.table, reply.message, path=exchange.path, query=exchange.query)
        status, answer_body = route.response.write(reply.message)
        etag = route.response.etag(reply.message)
        if etag:
            exchange.lines += f"ETag: {etag}\r\n"
        return Answer(status, answer_body, headers=REPLAYED if reply.replayed else ())

    async def _body(
        self, exchange: _Exchange, method: Method, *, owner: str, timeout_seconds: float
    ) -> bytes:
        return await self._bodies.read(
            exchange.request,
            owner=owner,
            size_max=method.body_bytes_max,
            timeout_seconds=timeout_seconds,
            text_allowed=bool(method.token_in_body),
        )

    def _begin_span(self, request: web.BaseRequest, route: Route) -> RequestSpan:
        """The span of a request.

        Anybody can send a `traceparent` with the sampled flag. It only decides for configured callers. For
        others the sample ratio decides, and the span has a link to their trace.
        """
        sent = request.headers.get("traceparent", "")
        if not sent or request.remote in self._trace_callers:
            return self._tracing.begin(route.name, traceparent=sent, kind=SpanKind.SERVER)
        return self._tracing.begin(route.name, traceparent="", kind=SpanKind.SERVER, links=[sent])

    async def _page(self, exchange: _Exchange) -> Answer:
        """A document, or a page for load balancers; it needs no token."""
        request = exchange.request
        answer = self._documents.get(
            exchange.path, if_none_match=request.headers.get("If-None-Match", "")
        ) or await self._public_page(exchange.path)
        exchange.metered_as = exchange.path
        if request.method not in {"GET", "HEAD"}:
            return _without_route(request.method, "GET, HEAD, OPTIONS")
        return answer

    async def _public_page(self, path: str) -> Answer:
        page = await self._pages.get(path) if path in PUBLIC_PAGES else None
        if page is None:
            raise ServiceError(Reason.NOT_FOUND, "There is nothing at this path")
        return Answer(page.status, page.body, content_type=page.content_type)

    def _forget(self, exchange: _Exchange) -> None:
        """Ends a request whose client has left."""
        if exchange.place is not None:
            exchange.place.leave()
        if exchange.span is not None:
            exchange.span.end()
        self._metrics.observe_call(exchange.metered_as, CANCELLED, time.monotonic() - exchange.began)

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
                **({"idempotency_key": exchange.idempotency_key} if exchange.idempotency_key else {}),
            )


def _describe(span: RequestSpan, exchange: _Exchange, answer: Answer) -> None:
    """Sets attributes by OpenTelemetry's conventions for HTTP servers. Only a fault of ours is an error."""
    span.set("http.request.method", exchange.request.method)
    span.set("url.path", exchange.path)
    span.set("http.response.status_code", answer.status)
    span.set("homeroom.request_id", exchange.request_id)
    if answer.headers[:1] == REPLAYED:
        span.set("homeroom.replayed", value=True)
    if answer.status >= 500:
        span.error(answer.code)


def _without_route(http_method: str, allowed: str) -> Answer:
    if http_method == "OPTIONS":
        return Answer(NO_CONTENT, b"", headers=(("Allow", allowed),))
    raise HttpRefusal(
        Reason.METHOD_NOT_ALLOWED, f"Only {allowed} can be used here", headers=(("Allow", allowed),)
    )
