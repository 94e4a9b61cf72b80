"""From serialized requests to outcomes: what every batch passes before and after its servicer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from google.protobuf.message import DecodeError, Message
from opentelemetry.trace import SpanKind

from chassis.batch import BatchHandler, Item, Reply
from chassis.call import Call
from chassis.database_errors import LockTimeout, OutcomeUnknown
from chassis.errors import Reason, ServiceError
from chassis.methods import Method, methods_of
from chassis.metrics import Metrics
from chassis.tracing import RequestSpan, Tracing
from chassis.validation import validate

# Boulder's figures (grpc/interceptors.go): what the way back takes, and what is too little to begin with.
WAY_BACK_SECONDS = 0.020
TOO_LITTLE_SECONDS = 0.100
# Completions and answers are shed last: they still enter when everything else is refused.
SHED_LAST_HEADROOM = 1.25
# How a request ended, beside the names of the reasons.
OK = "OK"
CANCELLED = "CANCELLED"

log = structlog.get_logger(__name__)

Answer = Reply[Message] | ServiceError


class Dispatcher:
    """Runs batches on the servicers of one process.

    Args:
        servicers: the full name of each service, and the object whose methods are named as its RPCs.
        in_flight_maximum: requests under way at once; more are refused as OVERLOADED, quickly.

    Raises:
        TypeError: a method of a service has no method on its servicer.
    """

    def __init__(
        self, *, servicers: Mapping[str, object], tracing: Tracing, metrics: Metrics, in_flight_maximum: int
    ) -> None:
        self._tracing = tracing
        self._metrics = metrics
        self._in_flight = 0
        self._in_flight_maximum = in_flight_maximum
        self.methods: dict[str, Method] = {}
        self._handlers: dict[str, Any] = {}
        for service, servicer in servicers.items():
            for method in methods_of(service):
                handler = getattr(servicer, method.name, None)
                if handler is None:
                    raise TypeError(f"{type(servicer).__name__} lacks {method.name} of {service}")
                self.methods[method.path] = method
                self._handlers[method.path] = handler
        metrics.gauge("requests_in_flight", "Requests being worked on", lambda: float(self._in_flight))

    async def run(self, method: Method, requests: Sequence[tuple[bytes, Call]]) -> list[Answer]:
        """Answers a batch of calls to one unary method; never raises for what a request contains."""
        began = time.monotonic()
        self._metrics.observe_batch(method.path, len(requests))
        answers: list[Answer | None] = [None] * len(requests)
        spans: list[RequestSpan] = []
        items: list[Item[Any]] = []
        places: list[int] = []
        for place, (payload, call) in enumerate(requests):
            span = self._tracing.begin(method.path, traceparent=call.traceparent, kind=SpanKind.SERVER)
            spans.append(span)
            request = self._admit(method, payload, call, began, ahead=len(items))
            if isinstance(request, ServiceError):
                answers[place] = request
            else:
                items.append(Item(_for_operation(call, span), request))
                places.append(place)
        if items:
            self._in_flight += len(items)
            try:
                with self._tracing.batch([spans[place] for place in places]):
                    worked = await self._work(method, self._handlers[method.path], items)
            except asyncio.CancelledError:
                # Its callers have left, or their time is over, or the process is stopping.
                for answer, span in zip(answers, spans, strict=True):
                    code = answer.reason.name if isinstance(answer, ServiceError) else CANCELLED
                    self._end(method, code, span, began)
                raise
            finally:
                self._in_flight -= len(items)
            for place, answer in zip(places, worked, strict=True):
                answers[place] = answer
        return [
            self._finish(method, answer, span, began)
            for answer, span in zip((a for a in answers if a is not None), spans, strict=True)
        ]

    def stream(self, method: Method, payload: bytes, call: Call) -> Any:
        """Begins a server-streaming method; the result is an async iterator of response messages.

        Raises:
            ServiceError: the request was refused.
        """
        request = self._admit(method, payload, call, time.monotonic())
        if isinstance(request, ServiceError):
            raise request
        return self._handlers[method.path](Item(call, request))

    def _admit(
        self, method: Method, payload: bytes, call: Call, now: float, *, ahead: int = 0
    ) -> Message | ServiceError:
        if call.deadline - now < TOO_LITTLE_SECONDS:
            return ServiceError(Reason.DEADLINE_EXCEEDED, "Too little time was left to begin with")
        if method.roles.isdisjoint(call.roles):
            return ServiceError(Reason.PERMISSION_DENIED)
        if method.key_required and not call.idempotency_key:
            return ServiceError(Reason.IDEMPOTENCY_KEY_MISSING)
        limit = self._in_flight_maximum * (SHED_LAST_HEADROOM if method.shed_last else 1.0)
        if self._in_flight + ahead >= limit:
            return ServiceError(Reason.OVERLOADED, retry_after_seconds=1.0)
        try:
            request = method.request_type.FromString(payload)
        except DecodeError:
            return ServiceError(
                Reason.INVALID_ARGUMENT, f"The request is not a {method.request_type.__name__}"
            )
        return validate(request) or request

    async def _work(self, method: Method, handler: BatchHandler, items: list[Item[Any]]) -> Sequence[Answer]:
        try:
            answers = await handler(items)
        except ServiceError as error:
            return [error] * len(items)
        except (OutcomeUnknown, LockTimeout):
            # The operation could not find out either, or somebody was in its way: the same key, sent again,
            # will do.
            return [ServiceError(Reason.UNAVAILABLE, retry_after_seconds=0.1)] * len(items)
        except TimeoutError:
            return [ServiceError(Reason.DEADLINE_EXCEEDED)] * len(items)
        except Exception:
            log.exception(
                "handler_failed", method=method.path, request_ids=[i.call.request_id for i in items]
            )
            return [ServiceError(Reason.INTERNAL)] * len(items)
        if len(answers) != len(items):
            log.error("handler_miscounted", method=method.path, asked=len(items), answered=len(answers))
            return [ServiceError(Reason.INTERNAL)] * len(items)
        return answers

    def _finish(self, method: Method, answer: Answer, span: RequestSpan, began: float) -> Answer:
        if isinstance(answer, ServiceError):
            self._end(method, answer.reason.name, span, began)
            return answer
        if answer.replayed:
            span.set("homeroom.replayed", value=True)
            span.add_link(answer.original)
        self._end(method, OK, span, began)
        return answer

    def _end(self, method: Method, code: str, span: RequestSpan, began: float) -> None:
        if code != OK:
            span.error(code)
        span.end()
        self._metrics.observe_call(method.path, code, time.monotonic() - began)


def _for_operation(call: Call, span: RequestSpan) -> Call:
    """The call as the operation sees it: less time than the caller has, and our own span as the parent."""
    return Call(
        method=call.method,
        user_id=call.user_id,
        roles=call.roles,
        idempotency_key=call.idempotency_key,
        request_id=call.request_id,
        deadline=call.deadline - WAY_BACK_SECONDS,
        traceparent=span.traceparent,
    )
