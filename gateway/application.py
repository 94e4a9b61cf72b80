"""One HTTP request, from its headers to its answer: route, caller, body, call, metrics, trace and log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from aiohttp import web
from google.protobuf.message import Message
from opentelemetry.trace import SpanKind

from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.rpc.client import Upstream
from chassis.telemetry.health import OpsPages
from chassis.telemetry.logs import bind_request, get_logger
from chassis.telemetry.metrics import CANCELLED, Metrics
from chassis.telemetry.tracing import RequestSpan, Tracing
from gateway.admission import Admission, Door
from gateway.answers import REPLAYED, Answer, HttpResponse
from gateway.authentication import Authenticator, Principal
from gateway.bodies import BodyReader
from gateway.changes.hub import EventHub
from gateway.client_address import ClientAddresses
from gateway.connections import Connection
from gateway.contract import OWN
from gateway.cors import Cors
from gateway.csv_answers import STATUS_OK, csv_answer, prefers_csv
from gateway.documents.pages import Pages
from gateway.exchange import Exchange, describe
from gateway.keys import IDEMPOTENCY_KEY, idempotency_key
from gateway.networks import Networks
from gateway.problems import HttpRefusal, problem
from gateway.rate_limits import RateLimits
from gateway.request_headers import (
    AUTHORIZATION,
    IF_MATCH,
    LAST_EVENT_ID,
    REQUEST_ID,
    REQUEST_TIMEOUT,
    TRACEPARENT,
    last_event_id_of,
    request_id_of,
    timeout_seconds_of,
    version_of,
)
from gateway.request_log import RequestLog
from gateway.routes import Route, RouteTable
from gateway.streaming.responses import EventStream, connection_of
from gateway.streaming.streams import Ending, Streams

NO_CONTENT = 204
# The other pages of the chassis are on the operations port.
PUBLIC_PAGES = frozenset({"/livez", "/readyz"})

log = get_logger(__name__)


class Application:
    """Answers HTTP requests by calling the services.

    Args:
        streams: the streams to clients that are open.
        events: the learners who listen to their changes.
        upstreams: the client of each service, by the short name of the proto package.
        trace_callers: the callers whose `traceparent` decides what is recorded; others are only linked.
        draining: whether the process is about to stop, so that connections are closed after their answers.
    """

    def __init__(
        self,
        *,
        routes: RouteTable,
        authenticator: Authenticator,
        cors: Cors,
        rate_limits: RateLimits,
        streams: Streams,
        events: EventHub,
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
        request_log: RequestLog,
    ) -> None:
        self._routes = routes
        self._authenticator = authenticator
        self._cors = cors
        self._rate_limits = rate_limits
        self._streams = streams
        self._events = events
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
        self._log = request_log

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers every request; raises ConnectionError when the client has left."""
        path, _, query = request.raw_path.partition("?")
        exchange = Exchange(
            request=request,
            request_id=request_id_of(request.headers.get(REQUEST_ID)),
            path=path,
            query=query,
            began=cast("Connection", request.protocol).received_at or time.monotonic(),
        )
        bind_request(exchange.request_id)
        answer: Answer | EventStream
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
        if isinstance(answer, EventStream):
            if exchange.client_has_left:
                await answer.close(Ending.LEFT)
                raise ConnectionResetError("The client left")
            return cast("web.StreamResponse", answer)
        if exchange.client_has_left:
            self._forget(exchange)
            raise ConnectionResetError("The client left")
        self._record(exchange, answer)
        self._add_cors(exchange)
        response = HttpResponse(
            answer,
            request_id=exchange.request_id,
            close=self._draining(),
            place=exchange.place,
            lines=exchange.lines,
        )
        return cast("web.StreamResponse", response)

    def _add_cors(self, exchange: Exchange) -> None:
        if self._cors.enabled:
            request = exchange.request
            exchange.lines += self._cors.lines(
                request.headers.get("Origin", ""), preflight=request.method == "OPTIONS"
            )

    async def _answer(self, exchange: Exchange) -> Answer | EventStream:
        request = exchange.request
        exchange.address = cast("Connection", request.protocol).address
        if self._addresses.enabled:
            exchange.address = self._addresses.find(
                request.headers, peer=request.remote, peer_address=exchange.address
            )
        if exchange.path not in PUBLIC_PAGES:
            self._rate_limits.take_address(exchange.address)
        place = self._routes.find(exchange.path)
        if place is None:
            return await self._page(exchange)
        http_method = request.method
        route = place.routes.get("GET" if http_method == "HEAD" else http_method)
        if route is None:
            return _without_route(http_method, place.allowed())
        exchange.metered_as = route.method.path
        return await self._call(exchange, route, place.values)

    async def _call(
        self, exchange: Exchange, route: Route, path_values: tuple[str, ...]
    ) -> Answer | EventStream:
        method, request = route.method, exchange.request
        headers = request.headers
        # What the gateway itself answers needs no place among the requests in flight.
        door = None if route.upstream == OWN else self._admission.door(route.upstream, method)
        if door is not None:
            door.refuse_if_full()
        authorization: Sequence[str] = headers.getall(AUTHORIZATION, ())
        message: Message | bytes | None = None
        if route.body_token is not None and not authorization:
            # Nobody is known yet, so the body counts for the address. The ids of learners are printable.
            owner = f"\0{exchange.address}"
            timeout_seconds = timeout_seconds_of(headers.get(REQUEST_TIMEOUT))
            body = await self._bodies.read(request, method, owner=owner, timeout_seconds=timeout_seconds)
            message = route.request.read(body=body, values=path_values, query=exchange.query)
            authorization = route.body_token.take(message)
        principal = await self._authenticator.authenticate(authorization)
        exchange.lines = self._rate_limits.take_user(principal.user_id)
        if method.roles.isdisjoint(principal.roles):
            raise ServiceError(Reason.PERMISSION_DENIED, "The token's roles do not allow this")
        span = exchange.span = self._begin_span(request, route)
        if method.key_required:
            exchange.idempotency_key = idempotency_key(headers.getall(IDEMPOTENCY_KEY, ()))
        timeout_seconds = timeout_seconds_of(headers.get(REQUEST_TIMEOUT))
        if message is None:
            message = await self._read(exchange, route, path_values, door, principal, timeout_seconds)
        elif door is not None:
            exchange.place = await door.enter(learner=principal.user_id, address=exchange.address)
        context = Context(
            method=method.path,
            user_id=principal.user_id,
            roles=principal.roles,
            idempotency_key=exchange.idempotency_key,
            request_id=exchange.request_id,
            deadline=exchange.began + timeout_seconds,
            traceparent=span.traceparent,
        )
        if method.server_streaming:
            return await self._stream(exchange, route, cast("Message", message), context, principal)
        reply = await self._upstreams[route.upstream].call(method.path, message, context)
        if route.table is not None and prefers_csv(headers.getall("Accept", ())):
            return csv_answer(route.table, reply.message, path=exchange.path, query=exchange.query)
        status, answer_body = route.response.write(reply.message)
        etag = route.response.etag(reply.message)
        if etag:
            exchange.lines += f"ETag: {etag}\r\n"
        return Answer(status, answer_body, headers=REPLAYED if reply.replayed else ())

    async def _read(  # noqa: PLR0917 - what is known of the request so far
        self,
        exchange: Exchange,
        route: Route,
        path_values: tuple[str, ...],
        door: Door | None,
        principal: Principal,
        timeout_seconds: float,
    ) -> Message | bytes:
        """The message of a request, which gets its place between its body and the reading of the body.

        It is serialized, unless the gateway itself has to do with what is in it.
        """
        method, reader, request = route.method, route.request, exchange.request
        version = None
        if not method.safe:
            version = version_of(request.headers.getall(IF_MATCH, ()), supported=reader.takes_version)
        owner = principal.user_id
        body = await self._bodies.read(request, method, owner=owner, timeout_seconds=timeout_seconds)
        if door is not None:
            exchange.place = await door.enter(learner=owner, address=exchange.address)
        query = exchange.query
        if route.body_token is None and route.events is None:
            return reader.payload(body=body, values=path_values, query=query, version=version)
        last_event_id = ""
        if reader.takes_last_event_id:
            last_event_id = last_event_id_of(request.headers.getall(LAST_EVENT_ID, ()))
        message = reader.read(
            body=body, values=path_values, query=query, version=version, last_event_id=last_event_id
        )
        if route.body_token is not None:
            route.body_token.take(message)
        return message

    async def _stream(
        self,
        exchange: Exchange,
        route: Route,
        message: Message,
        context: Context,
        principal: Principal,
    ) -> EventStream:
        """Opens a stream: until its first message it is a request like any other."""

        def finished(code: str, failure: Answer | None) -> None:
            if exchange.place is not None:
                exchange.place.leave()
            if code == CANCELLED:
                self._forget(exchange)
            else:
                self._record(exchange, failure or Answer(STATUS_OK, b"", code=code), lasted=failure is None)

        assert route.events is not None  # noqa: S101 - each method that streams has them
        seat = self._streams.enter(principal.user_id, token_seconds=principal.valid_until - time.time())
        self._add_cors(exchange)
        stream = EventStream(
            messages=(self._events if route.upstream == OWN else self._upstreams[route.upstream]).stream(
                route.method.path,
                message,
                context,
                seconds_max=context.remaining_seconds() + self._streams.limits.seconds_max,
            ),
            writer=route.events,
            seat=seat,
            connection=connection_of(exchange.request),
            instance=exchange.path,
            request_id=exchange.request_id,
            lines=exchange.lines,
            finished=finished,
        )
        await stream.open(seconds_max=context.remaining_seconds())
        return stream

    def _begin_span(self, request: web.BaseRequest, route: Route) -> RequestSpan:
        """The span of a request.

        Anybody can send a `traceparent` with the sampled flag. It only decides for configured callers. For
        others the sample ratio decides, and the span has a link to their trace.
        """
        sent = request.headers.get(TRACEPARENT, "")
        if not sent or request.remote in self._trace_callers:
            return self._tracing.begin(route.name, traceparent=sent, kind=SpanKind.SERVER)
        return self._tracing.begin(route.name, traceparent="", kind=SpanKind.SERVER, links=[sent])

    async def _page(self, exchange: Exchange) -> Answer:
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

    def _forget(self, exchange: Exchange) -> None:
        """Ends a request whose client has left."""
        if exchange.place is not None:
            exchange.place.leave()
        if exchange.span is not None:
            exchange.span.end()
        self._metrics.observe_call(exchange.metered_as, CANCELLED, time.monotonic() - exchange.began)

    def _record(self, exchange: Exchange, answer: Answer, *, lasted: bool = False) -> None:
        """Counts and logs what was answered; `lasted` means that to take long was no fault."""
        if exchange.span is not None:
            if exchange.span.sampled:
                describe(exchange.span, exchange, answer)
            exchange.span.end()
        seconds = time.monotonic() - exchange.began
        self._metrics.observe_call(exchange.metered_as, answer.code, seconds)
        if self._log.wants(answer.status, 0.0 if lasted else seconds):
            self._log.write(
                status=answer.status,
                seconds=seconds,
                http_method=exchange.request.method,
                path=exchange.path,
                method=exchange.metered_as,
                code=answer.code,
                **({"idempotency_key": exchange.idempotency_key} if exchange.idempotency_key else {}),
            )


def _without_route(http_method: str, allowed: str) -> Answer:
    if http_method == "OPTIONS":
        return Answer(NO_CONTENT, b"", headers=(("Allow", allowed),))
    raise HttpRefusal(
        Reason.METHOD_NOT_ALLOWED, f"Only {allowed} can be used here", headers=(("Allow", allowed),)
    )
