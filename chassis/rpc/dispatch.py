"""Dispatch: admits each serialized request, runs the handler on the batch, and records metrics and spans."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message
from opentelemetry.trace import SpanKind

from chassis.batch import Item, Outcome, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.rpc.methods import Method, methods_of
from chassis.rpc.servicing import Handler, StreamHandler, UnaryHandler
from chassis.rpc.validation import validate
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import CANCELLED, OK, Metrics
from chassis.telemetry.tracing import RequestSpan, Tracing

log = get_logger(__name__)

# Both values are Boulder's (grpc/interceptors.go): the time that the answer needs on its way back, and the
# least time that must remain when a request arrives.
WAY_BACK_SECONDS = 0.020
REMAINING_SECONDS_MIN = 0.100


class Dispatcher:
    """Runs batches on the handlers of one process.

    Args:
        handlers: one for each method of each service that is served.
        in_flight_max: the largest number of requests in flight; one more is refused as OVERLOADED, at once.

    Raises:
        TypeError: a method of a service has no handler, or one of the wrong kind.
    """

    def __init__(
        self, *, handlers: Sequence[Handler], tracing: Tracing, metrics: Metrics, in_flight_max: int
    ) -> None:
        self._tracing = tracing
        self._metrics = metrics
        self._in_flight = 0
        self._in_flight_max = in_flight_max
        self._unary = {each.method.path: each for each in handlers if isinstance(each, UnaryHandler)}
        self._streams = {each.method.path: each for each in handlers if isinstance(each, StreamHandler)}
        self.methods: dict[str, Method] = {}
        for service in sorted({handler.method.service for handler in handlers}):
            for method in methods_of(service):
                if method.path not in (self._streams if method.server_streaming else self._unary):
                    raise TypeError(f"{method.path} has no handler of its kind")
                self.methods[method.path] = method
        metrics.gauge("requests_in_flight", "Requests in flight.", lambda: float(self._in_flight))

    async def run(self, method: Method, requests: Sequence[tuple[bytes, Context]]) -> list[Outcome]:
        """Answers a batch of calls to one unary method. No content of a request makes it raise."""
        began = time.monotonic()
        self._metrics.observe_batch(method.path, len(requests))
        outcomes: list[Outcome | None] = [None] * len(requests)
        spans: list[RequestSpan] = []
        items: list[Item[Any]] = []
        places: list[int] = []
        for place, (payload, context) in enumerate(requests):
            span = self._tracing.begin(method.path, traceparent=context.traceparent, kind=SpanKind.SERVER)
            spans.append(span)
            try:
                request = self._admit(method, payload, context, began, ahead=len(items))
            except Exception:
                log.exception("request_not_admitted", method=method.path, request_id=context.request_id)
                request = ServiceError(Reason.INTERNAL)
            if isinstance(request, ServiceError):
                outcomes[place] = request
                # Its span ends here: it does not take part in the work of its neighbours.
                self._end(method, request.reason.name, span, began)
            else:
                items.append(Item(_for_operation(context, span), request))
                places.append(place)
        if items:
            self._in_flight += len(items)
            try:
                with self._tracing.batch([spans[place] for place in places]):
                    worked = await self._answered(method, items)
            except asyncio.CancelledError:
                # The callers have left, their deadlines have passed, or the process is stopping.
                for place in places:
                    self._end(method, CANCELLED, spans[place], began)
                raise
            finally:
                self._in_flight -= len(items)
            self._finish(method, worked, [spans[place] for place in places], began)
            for place, outcome in zip(places, worked, strict=True):
                outcomes[place] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    async def _answered(self, method: Method, items: Sequence[Item[Any]]) -> list[Outcome]:
        """The handler's outcomes, serialized. An exception of the handler becomes INTERNAL for each item."""
        try:
            outcomes = await self._unary[method.path].answer(items)
            if len(outcomes) != len(items):
                raise ValueError(f"{len(outcomes)} outcomes for {len(items)} items")  # noqa: TRY301 - the handler below tells each caller
        except Exception:
            log.exception("handler_failed", method=method.path)
            return [ServiceError(Reason.INTERNAL)] * len(items)
        return [
            outcome
            if isinstance(outcome, Reply) and isinstance(outcome.message, bytes)
            else _serialized(method, outcome)
            for outcome in outcomes
        ]

    async def stream(self, method: Method, payload: bytes, context: Context) -> AsyncGenerator[bytes]:
        """Runs a server-streaming method; its span and its metrics end with the stream.

        The stream's queries are no children of its span: a stream may live for days.

        Raises:
            ServiceError: the request was refused, or the stream failed.
        """
        began = time.monotonic()
        span = self._tracing.begin(method.path, traceparent=context.traceparent, kind=SpanKind.SERVER)
        code = CANCELLED  # by its caller, or because the process is stopping
        try:
            request = self._admit(method, payload, context, began)
            if isinstance(request, ServiceError):
                raise request  # noqa: TRY301 - the handler below counts it
            item = Item(_for_operation(context, span), request)
            async for message in self._streams[method.path].follow(item):
                yield message.SerializeToString()
            code = OK
        except ServiceError as error:
            code = error.reason.name
            raise
        except Exception as error:
            log.exception("stream_failed", method=method.path)
            code = Reason.INTERNAL.name
            raise ServiceError(Reason.INTERNAL) from error
        finally:
            self._end(method, code, span, began)

    def _admit(
        self, method: Method, payload: bytes, context: Context, now: float, *, ahead: int = 0
    ) -> Message | ServiceError:
        if context.deadline - now < REMAINING_SECONDS_MIN:
            return ServiceError(
                Reason.DEADLINE_EXCEEDED,
                f"The deadline is too short: at least {REMAINING_SECONDS_MIN * 1000:g} ms must remain",
            )
        if method.roles.isdisjoint(context.roles):
            return ServiceError(Reason.PERMISSION_DENIED)
        if method.key_required and not context.idempotency_key:
            return ServiceError(Reason.IDEMPOTENCY_KEY_MISSING)
        if self._in_flight + ahead >= method.in_flight_limit(self._in_flight_max):
            return ServiceError(Reason.OVERLOADED, retry_after_seconds=1.0)
        try:
            request = method.request_type.FromString(payload)
        except DecodeError:
            return ServiceError(
                Reason.INVALID_ARGUMENT, f"The request is not a {method.request_type.__name__}"
            )
        return validate(request) or request

    def _finish(
        self, method: Method, outcomes: Sequence[Outcome], spans: Sequence[RequestSpan], began: float
    ) -> None:
        """Ends the spans of a batch, and counts its calls: those with the same code at once."""
        seconds = time.monotonic() - began
        counted: dict[str, int] = {}
        for outcome, span in zip(outcomes, spans, strict=True):
            code = OK
            if isinstance(outcome, ServiceError):
                code = outcome.reason.name
                span.error(code)
            elif outcome.replayed:
                span.set("homeroom.replayed", value=True)
                span.add_link(outcome.original)
            span.end()
            counted[code] = counted.get(code, 0) + 1
        for code, times in counted.items():
            self._metrics.observe_call(method.path, code, seconds, times=times)

    def _end(self, method: Method, code: str, span: RequestSpan, began: float) -> None:
        if code != OK:
            span.error(code)
        span.end()
        self._metrics.observe_call(method.path, code, time.monotonic() - began)


def _serialized(method: Method, outcome: Outcome) -> Outcome:
    if isinstance(outcome, ServiceError):
        return outcome
    try:
        return Reply(outcome.payload(), outcome.replayed, outcome.original)
    except Exception:
        log.exception("answer_not_serialized", method=method.path)
        return ServiceError(Reason.INTERNAL)


def _for_operation(context: Context, span: RequestSpan) -> Context:
    """The context for the operation: a deadline before the caller's, and our own span as the parent."""
    return Context(  # `replace` takes three times as long, and this runs for each request
        method=context.method,
        user_id=context.user_id,
        roles=context.roles,
        idempotency_key=context.idempotency_key,
        request_id=context.request_id,
        deadline=context.deadline - WAY_BACK_SECONDS,
        traceparent=span.traceparent,
    )
