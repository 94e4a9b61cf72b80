"""A request on its way through the gateway, and the span that tells of it."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from chassis.telemetry.tracing import RequestSpan
from gateway.admission import Place
from gateway.answers import REPLAYED, Answer

UNROUTED = "unrouted"


@dataclass(slots=True)
class Exchange:
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


def describe(span: RequestSpan, exchange: Exchange, answer: Answer) -> None:
    """Sets attributes by OpenTelemetry's conventions for HTTP servers. Only a fault of ours is an error."""
    span.set("http.request.method", exchange.request.method)
    span.set("url.path", exchange.path)
    span.set("http.response.status_code", answer.status)
    span.set("homeroom.request_id", exchange.request_id)
    if answer.headers[:1] == REPLAYED:
        span.set("homeroom.replayed", value=True)
    if answer.status >= 500:
        span.error(answer.code)
