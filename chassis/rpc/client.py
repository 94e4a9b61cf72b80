"""A client of one other process: each call gets an answer or a ServiceError."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from opentelemetry.trace import SpanKind

from chassis.batch import Item, Outcome, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.rpc.breakers import Breakers
from chassis.rpc.carrier import UNSENT, Carried, Carrier
from chassis.rpc.coalescer import Coalescer
from chassis.rpc.faults import UnreadableAnswerError, cancelled_by_caller
from chassis.rpc.methods import Method, find_method
from chassis.rpc.pacing import Pacer
from chassis.rpc.payloads import outcome_of, parsed, serialized
from chassis.rpc.retries import RETRY_SECONDS_MIN, RetryBudget, RetryMetrics
from chassis.rpc.streams import follow
from chassis.rpc.tls import TlsIdentity
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import RequestSpan, Tracing

# A quarter of what a server takes at once (chassis.rpc.server), so that one upstream never takes it all.
IN_FLIGHT_MAX = 1024
# The size of all requests that wait for their answers, over all methods. It bounds the memory.
REQUESTS_BYTES_MAX = 64 * 1024 * 1024
# How long closing waits for the messages that `call_many` has sent.
CLOSE_GRACE_SECONDS = 2.0
# How long the calls on the channel with the old certificate may still take.
RENEW_GRACE_SECONDS = 15.0
HEALTH_TIMEOUT_SECONDS = 1.0

log = get_logger(__name__)


class Upstream:
    """Calls one other process.

    The calls to one method are collected in a coalescer. Retries, the retry budget, the breakers and the
    bound of the calls in flight are here, and nowhere else between the two processes. gRPC's own retries are
    off, so that each attempt has its span.

    Args:
        target: host:port of the process.
        lanes: batches of one method in flight at once.
        batch_max: calls in one batch.
        waiting_max: calls of one method that may wait for a lane.
        in_flight_max: calls that may be waiting for their answers, over all methods, so that a slow upstream
            takes only a part of this process. A method's priority decides how much of it the method may use.
        attempts: how often a call is sent at most, if the contract allows more for its method.
        identity: the certificate of this process, for mutual TLS; the upstream's certificate must name the
            host of `target`.
        pacer: gives the answers to their callers; by default, all of a message at once.
    """

    def __init__(
        self,
        *,
        name: str,
        target: str,
        service_token: str,
        tracing: Tracing,
        metrics: Metrics,
        lanes: int = 2,
        batch_max: int = 128,
        waiting_max: int = 2048,
        in_flight_max: int = IN_FLIGHT_MAX,
        attempts: int | None = None,
        identity: TlsIdentity | None = None,
        pacer: Pacer | None = None,
    ) -> None:
        self._name = name
        self._tracing = tracing
        self._lanes = lanes
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._pacer = pacer or Pacer()
        self._in_flight_max = in_flight_max
        self._in_flight = 0
        self._attempts_max = math.inf if attempts is None else attempts
        self._budget = RetryBudget()
        self._retries = RetryMetrics(metrics)
        self._breakers = Breakers(upstream=name, metrics=metrics)
        self._carrier = Carrier(
            name=name,
            target=target,
            service_token=service_token,
            breakers=self._breakers,
            identity=identity,
        )
        self._methods: dict[str, tuple[Method, Coalescer[Item[bytes], Carried], int]] = {}
        self._requests_bytes = 0
        self._closing = False
        metrics.gauge_of(
            "upstream_calls_in_flight",
            "Calls to an upstream that wait for their answers.",
            lambda: float(self._in_flight),
            label="upstream",
            value=name,
        )
        metrics.gauge_of(
            "upstream_waiting_calls",
            "Calls that wait for a lane to an upstream.",
            lambda: float(self.waiting_calls),
            label="upstream",
            value=name,
        )

    @property
    def breaker_open(self) -> bool:
        """Whether all calls are refused, some probes aside, because recent ones got no answers."""
        return self._breakers.upstream.open

    def breaker_open_for(self, path: str) -> bool:
        """Whether calls of this method are refused, some probes aside."""
        return self._breakers.open_for(path)

    @property
    def waiting_calls(self) -> int:
        """Calls that wait for a lane."""
        return sum(coalescer.waiting for _, coalescer, _ in self._methods.values())

    async def call(self, path: str, request: Message | bytes, context: Context) -> Reply[Any]:
        """Sends one call, in a batch with other calls of this moment. The request may be serialized already.

        Raises:
            ServiceError: the upstream's refusal, or UNAVAILABLE, DEADLINE_EXCEEDED, OVERLOADED.
        """
        method, coalescer, in_flight_max = self._method(path)
        payload = serialized(request)
        if self._in_flight >= in_flight_max:
            raise _full()
        self._in_flight += 1
        self._budget.earn()
        attempt = 1
        try:
            while True:
                span = self._begin_span(method, context, attempt)
                try:
                    item = _traced(Item(context, payload), span)
                    response, replayed = await self._submit(method, coalescer, item)
                    return Reply(parsed(method, response), replayed)
                except ServiceError as error:
                    span.error(error.reason.name)
                    pause = self._pause_before_retry(method, error, attempt)
                    if pause is None or not self._may_retry(method, context, error, pause):
                        raise
                finally:
                    span.end()
                await asyncio.sleep(pause)
                attempt += 1
        finally:
            self._in_flight -= 1
            self._retries.ended(path, attempt)

    async def call_many(
        self, path: str, requests: Sequence[tuple[Message | bytes, Context]]
    ) -> list[Outcome]:
        """Sends many calls, serialized or not, as one message, at once. The outcomes keep their order."""
        method, _, in_flight_max = self._method(path)
        sent = [
            (place, Item(context, serialized(request)))
            for place, (request, context) in enumerate(requests[: max(0, in_flight_max - self._in_flight)])
        ]
        outcomes: list[Outcome] = [UNSENT] * len(sent)
        if len(sent) < len(requests):
            outcomes += [_full()] * (len(requests) - len(sent))
        self._in_flight += len(sent)
        try:
            await self._send_until_answered(method, sent, outcomes)
        finally:
            self._in_flight -= len(sent)
        return outcomes

    async def _send_until_answered(
        self, method: Method, sent: Sequence[tuple[int, Item[bytes]]], outcomes: list[Outcome]
    ) -> None:
        """Sends calls as one message, and those again that may be retried; fills in their outcomes."""
        self._budget.earn(len(sent))
        left = list(sent)
        attempt = 1
        while left:
            pauses: dict[int, tuple[float, ServiceError]] = {}
            answers = await self._carry_traced(method, left, attempt)
            for (place, item), outcome in zip(left, answers, strict=True):
                outcomes[place] = outcome
                if isinstance(outcome, ServiceError):
                    pause = self._pause_before_retry(method, outcome, attempt)
                    if pause is not None and self._in_time(method, item.context, pause):
                        pauses[place] = pause, outcome
            # The retries are sent together, after the longest pause. A call without enough time keeps its
            # outcome.
            longest = max((pause for pause, _ in pauses.values()), default=0.0)
            again = [
                (place, item)
                for place, item in left
                if place in pauses and self._may_retry(method, item.context, pauses[place][1], longest)
            ]
            self._retries.ended(method.path, attempt, calls=len(left) - len(again))
            left = again
            if left:
                await asyncio.sleep(longest)
                attempt += 1

    async def stream(
        self, path: str, request: Message, context: Context, *, seconds_max: float | None = None
    ) -> AsyncGenerator[Any]:
        """Follows a server-streaming method until it ends or the caller closes it. It is never sent again.

        `seconds_max` is its deadline; the deadline of the context is not used.

        Raises:
            ServiceError: the upstream's refusal, or UNAVAILABLE when the stream broke or the breaker is open.
        """
        method = find_method(path)
        self._check_line(method)
        span = self._begin_span(method, context, attempt=1)
        messages = follow(
            self._carrier,
            self._breakers,
            method,
            request,
            context._replace(traceparent=span.traceparent),
            seconds_max=seconds_max,
        )
        try:
            async with aclosing(messages):
                async for message in messages:
                    yield message
        except ServiceError as error:
            span.error(error.reason.name)
            raise
        finally:
            span.end()

    async def check_health(self) -> None:
        """Asks the gRPC health service of the process, for a readiness check.

        Raises:
            ServiceError: the process does not answer, or does not serve.
        """
        rpc: Any = self._carrier.channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            payload = await rpc(b"", metadata=self._carrier.metadata, timeout=HEALTH_TIMEOUT_SECONDS)
            status = _health_status(payload)
        except (Exception, asyncio.CancelledError) as error:
            if cancelled_by_caller(error):
                raise
            raise self._carrier.failed(error, path="", timeout_seconds=HEALTH_TIMEOUT_SECONDS) from error
        self._breakers.succeeded("")
        if status != health_pb2.HealthCheckResponse.SERVING:
            raise ServiceError(Reason.UNAVAILABLE, f"{self._name} is not serving")

    async def renew(self) -> None:
        """Connects anew if the certificate of this process was renewed; calls under way end as usual."""
        await self._carrier.renew(RENEW_GRACE_SECONDS)

    async def close(self) -> None:
        """Refuses new calls, lets the calls in flight finish, then closes the channel."""
        self._closing = True
        grace_seconds = None
        try:
            for _, coalescer, _ in list(self._methods.values()):
                await coalescer.close()
            grace_seconds = CLOSE_GRACE_SECONDS
        finally:
            await self._carrier.close(grace_seconds)

    def _method(self, path: str) -> tuple[Method, Coalescer[Item[bytes], Carried], int]:
        """A method, its coalescer, and how many calls in flight leave no room for one of this method."""
        known = self._methods.get(path)
        if known is None:
            coalescer = Coalescer(
                send=partial(self._carrier.carry, path),
                lanes=self._lanes,
                batch_max=self._batch_max,
                waiting_max=self._waiting_max,
                pacer=self._pacer,
            )
            method = find_method(path)
            known = method, coalescer, int(method.in_flight_limit(self._in_flight_max))
            self._methods[path] = known
        return known

    def _begin_span(self, method: Method, context: Context, attempt: int) -> RequestSpan:
        span = self._tracing.begin(method.path, traceparent=context.traceparent, kind=SpanKind.CLIENT)
        if attempt > 1:
            span.set("homeroom.attempt", attempt)
        return span

    async def _submit(
        self, method: Method, coalescer: Coalescer[Item[bytes], Carried], item: Item[bytes]
    ) -> Carried:
        """Waits for the answer until the caller's own deadline, even if the batch takes longer."""
        remaining = item.context.remaining_seconds()
        if remaining <= 0.0:
            raise ServiceError(Reason.DEADLINE_EXCEEDED)
        self._check_line(method)
        size = len(item.request)
        if self._requests_bytes + size > REQUESTS_BYTES_MAX:
            raise _full()
        future = coalescer.submit(item)
        self._requests_bytes += size
        timer = future.get_loop().call_later(remaining, _expire, future)
        try:
            return await future
        finally:
            self._requests_bytes -= size
            timer.cancel()
            # The future refers to its error, and the traceback of the error refers to this frame. Without
            # `del`, only the garbage collector would free them.
            del future

    async def _carry_traced(
        self, method: Method, items: Sequence[tuple[int, Item[bytes]]], attempt: int
    ) -> list[Outcome]:
        """Carries calls that already form a batch, each with its own span."""
        spans = [self._begin_span(method, item.context, attempt) for _, item in items]
        outcomes: list[Outcome] = []
        try:
            self._check_line(method)
            traced = [_traced(item, span) for (_, item), span in zip(items, spans, strict=True)]
            answers = await self._carrier.carry(method.path, traced)
            outcomes = [outcome_of(method, answer) for answer in answers]
        except ServiceError as error:
            outcomes = [error] * len(items)
        finally:
            for span, outcome in zip(spans, outcomes, strict=False):  # a cancelled batch has no outcomes
                if isinstance(outcome, ServiceError):
                    span.error(outcome.reason.name)
            for span in spans:
                span.end()
        return outcomes

    def _check_line(self, method: Method) -> None:
        if self._closing:
            raise ServiceError(Reason.UNAVAILABLE)
        self._breakers.check(method.path)

    def _pause_before_retry(self, method: Method, error: ServiceError, attempt: int) -> float | None:
        """The seconds to wait before the next attempt; None when another attempt cannot help."""
        if not method.retryable or attempt >= self._attempts_max or self._closing:
            return None
        pause_seconds = method.retry.pause_seconds(error, attempt)
        if pause_seconds is not None and self._breakers.open_for(method.path):
            self._retries.forgone(method.path, "breaker")
            return None
        return pause_seconds

    def _may_retry(self, method: Method, context: Context, error: ServiceError, pause_seconds: float) -> bool:
        """Whether the deadline and the budget allow another attempt. If so, the budget pays for it."""
        if not self._in_time(method, context, pause_seconds):
            return False
        if not self._budget.spend():
            self._retries.forgone(method.path, "budget")
            return False
        self._retries.retried(method.path, error.reason)
        return True

    def _in_time(self, method: Method, context: Context, pause_seconds: float) -> bool:
        """Whether the deadline allows another attempt after this pause."""
        if context.remaining_seconds() < pause_seconds + RETRY_SECONDS_MIN:
            self._retries.forgone(method.path, "deadline")
            return False
        return True


def _traced(item: Item[bytes], span: RequestSpan) -> Item[bytes]:
    """The same call with the span as its parent. The decision not to sample is passed on as well."""
    if span.traceparent == item.context.traceparent:
        return item
    return item._replace(context=item.context._replace(traceparent=span.traceparent))


def _full() -> ServiceError:
    return ServiceError(Reason.OVERLOADED, retry_after_seconds=1.0)


def _health_status(payload: bytes) -> int:
    try:
        return int(health_pb2.HealthCheckResponse.FromString(payload).status)
    except DecodeError as error:
        raise UnreadableAnswerError(str(error)) from error


def _expire(future: asyncio.Future[Carried]) -> None:
    if not future.done():
        future.set_exception(ServiceError(Reason.DEADLINE_EXCEEDED))
