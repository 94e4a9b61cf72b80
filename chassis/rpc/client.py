"""A client of one other process: each call gets an answer or a ServiceError."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from opentelemetry.trace import SpanKind

from chassis.backoff import full_jitter
from chassis.batch import Item, Outcome, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.rpc.carrier import Carried, Carrier
from chassis.rpc.coalescer import Coalescer
from chassis.rpc.faults import UnreadableAnswerError, cancelled_by_caller
from chassis.rpc.methods import Method, find_method
from chassis.rpc.retries import ATTEMPTS_MAX, BACKOFF_SECONDS, BACKOFF_SECONDS_MAX, RetryBudget
from chassis.rpc.wire import METADATA_KEY, METADATA_REQUEST_ID, METADATA_ROLES, METADATA_TRACE, METADATA_USER
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import RequestSpan, Tracing

# After a failed attempt, another one is made only while at least this much time is left.
RETRY_SECONDS_MIN = 0.15
# The size of all requests that wait for their answers, over all methods. It bounds the memory.
REQUESTS_BYTES_MAX = 64 * 1024 * 1024
# How long closing waits for the messages that `call_many` has sent.
CLOSE_GRACE_SECONDS = 2.0
HEALTH_TIMEOUT_SECONDS = 1.0

log = get_logger(__name__)


class Upstream:
    """Calls one other process.

    The calls to one method are collected in a coalescer. Retries, the retry budget and the breaker are here,
    and nowhere else between the two processes. gRPC's own retries are off, so that each attempt has its span.

    Args:
        target: host:port of the process.
        lanes: batches of one method in flight at once.
        batch_max: calls in one batch.
        waiting_max: calls of one method that may wait for a lane.
        attempts: how often a retryable call is sent at most, the first time included.
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
        attempts: int = ATTEMPTS_MAX,
    ) -> None:
        self._name = name
        self._tracing = tracing
        self._lanes = lanes
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._attempts = attempts
        self._budget = RetryBudget()
        self._carrier = Carrier(name=name, target=target, service_token=service_token)
        self._methods: dict[str, tuple[Method, Coalescer[Item[bytes], Carried]]] = {}
        self._requests_bytes = 0
        self._closing = False
        metrics.gauge_of(
            "upstream_breaker_open",
            "1 while calls to an upstream are refused because recent calls got no answers.",
            lambda: float(self.breaker_open),
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
        """Whether calls are refused because recent calls got no answers."""
        return self._carrier.breaker.open

    @property
    def waiting_calls(self) -> int:
        """Calls that wait for a lane."""
        return sum(coalescer.waiting for _, coalescer in self._methods.values())

    async def call(self, path: str, request: Message, context: Context) -> Reply[Any]:
        """Sends one call, in a batch with other calls of this moment.

        Raises:
            ServiceError: the upstream's refusal, or UNAVAILABLE, DEADLINE_EXCEEDED, OVERLOADED.
        """
        method, coalescer = self._method(path)
        payload = _serialized(request)
        self._budget.earn()
        attempt = 1
        while True:
            span = self._tracing.begin(path, traceparent=context.traceparent, kind=SpanKind.CLIENT)
            try:
                response, replayed = await self._submit(coalescer, _traced(Item(context, payload), span))
                return Reply(_parsed(method, response), replayed)
            except ServiceError as error:
                span.error(error.reason.name)
                pause = self._pause_before_retry(method, error, attempt)
                if pause is None or not self._may_retry(context, pause):
                    raise
            finally:
                span.end()
            await asyncio.sleep(pause)
            attempt += 1

    async def call_many(
        self, path: str, requests: Sequence[tuple[Message | bytes, Context]]
    ) -> list[Outcome]:
        """Sends many calls to one method as one message, at once. The outcomes keep their order.

        A request may be serialized already.
        """
        method, _ = self._method(path)
        outcomes: list[Outcome] = [ServiceError(Reason.INTERNAL)] * len(requests)
        left = [
            (place, Item(context, _serialized(request))) for place, (request, context) in enumerate(requests)
        ]
        self._budget.earn(len(requests))
        attempt = 1
        while left:
            pauses: dict[int, float] = {}
            for (place, _), outcome in zip(left, await self._carry_traced(method, left), strict=True):
                outcomes[place] = outcome
                if isinstance(outcome, ServiceError):
                    pause = self._pause_before_retry(method, outcome, attempt)
                    if pause is not None:
                        pauses[place] = pause
            # The retries are sent together, after the longest pause. A call without enough time keeps its
            # outcome.
            longest = max(pauses.values(), default=0.0)
            left = [
                (place, item)
                for place, item in left
                if place in pauses and self._may_retry(item.context, longest)
            ]
            if left:
                await asyncio.sleep(longest)
                attempt += 1
        return outcomes

    async def stream(self, path: str, request: Message, context: Context) -> AsyncIterator[Any]:
        """Follows a server-streaming method until the stream ends or the caller stops. It has no deadline.

        Raises:
            ServiceError: the upstream's refusal, or UNAVAILABLE when the stream broke.
        """
        method = find_method(path)
        responses: Any = None
        try:
            rpc: Any = self._carrier.channel.unary_stream(path)
            responses = rpc(
                request.SerializeToString(), metadata=(*self._carrier.metadata, *_context_metadata(context))
            )
            async for payload in responses:
                yield _parsed(method, payload)
        except ServiceError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if cancelled_by_caller(error):
                raise
            raise self._carrier.failed(error, timeout_seconds=math.inf) from error
        finally:
            if responses is not None:
                responses.cancel()

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
            raise self._carrier.failed(error, timeout_seconds=HEALTH_TIMEOUT_SECONDS) from error
        self._carrier.breaker.succeeded()
        if status != health_pb2.HealthCheckResponse.SERVING:
            raise ServiceError(Reason.UNAVAILABLE, f"{self._name} is not serving")

    async def close(self) -> None:
        """Refuses new calls, lets the calls in flight finish, then closes the channel."""
        self._closing = True
        grace_seconds = None
        try:
            for _, coalescer in list(self._methods.values()):
                await coalescer.close()
            grace_seconds = CLOSE_GRACE_SECONDS
        finally:
            await self._carrier.close(grace_seconds)

    def _method(self, path: str) -> tuple[Method, Coalescer[Item[bytes], Carried]]:
        known = self._methods.get(path)
        if known is None:

            async def send(items: Sequence[Item[bytes]]) -> list[Carried | ServiceError]:
                return await self._carrier.carry(path, items)

            coalescer = Coalescer(
                send=send,
                lanes=self._lanes,
                batch_max=self._batch_max,
                waiting_max=self._waiting_max,
            )
            known = self._methods[path] = (find_method(path), coalescer)
        return known

    async def _submit(self, coalescer: Coalescer[Item[bytes], Carried], item: Item[bytes]) -> Carried:
        """Waits for the answer until the caller's own deadline, even if the batch takes longer."""
        remaining = item.context.remaining_seconds()
        if remaining <= 0.0:
            raise ServiceError(Reason.DEADLINE_EXCEEDED)
        self._check_line()
        size = len(item.request)
        if self._requests_bytes + size > REQUESTS_BYTES_MAX:
            raise ServiceError(Reason.OVERLOADED, retry_after_seconds=1.0)
        future = coalescer.submit(item)
        self._requests_bytes += size
        timer = asyncio.get_running_loop().call_later(remaining, _expire, future)
        try:
            return await future
        finally:
            self._requests_bytes -= size
            timer.cancel()
            # The future refers to its error, and the traceback of the error refers to this frame. Without
            # `del`, only the garbage collector would free them.
            del future

    async def _carry_traced(self, method: Method, items: Sequence[tuple[int, Item[bytes]]]) -> list[Outcome]:
        """Carries calls that already form a batch, each with its own span."""
        spans = [
            self._tracing.begin(method.path, traceparent=item.context.traceparent, kind=SpanKind.CLIENT)
            for _, item in items
        ]
        outcomes: list[Outcome] = []
        try:
            self._check_line()
            traced = [_traced(item, span) for (_, item), span in zip(items, spans, strict=True)]
            answers = await self._carrier.carry(method.path, traced)
            outcomes = [_outcome(method, answer) for answer in answers]
        except ServiceError as error:
            outcomes = [error] * len(items)
        finally:
            for span, outcome in zip(spans, outcomes, strict=False):  # a cancelled batch has no outcomes
                if isinstance(outcome, ServiceError):
                    span.error(outcome.reason.name)
            for span in spans:
                span.end()
        return outcomes

    def _check_line(self) -> None:
        if self._closing:
            raise ServiceError(Reason.UNAVAILABLE)
        self._carrier.breaker.check()

    def _pause_before_retry(self, method: Method, error: ServiceError, attempt: int) -> float | None:
        """The seconds to wait before the next attempt; None when another attempt cannot help."""
        if error.reason is not Reason.UNAVAILABLE or not method.retryable or attempt >= self._attempts:
            return None
        if self.breaker_open or self._closing:
            return None
        backoff_seconds = full_jitter(attempt, base_seconds=BACKOFF_SECONDS, seconds_max=BACKOFF_SECONDS_MAX)
        return backoff_seconds + (error.retry_after_seconds or 0.0)

    def _may_retry(self, context: Context, pause_seconds: float) -> bool:
        """Whether the deadline and the budget allow another attempt. If so, the budget pays for it."""
        return context.remaining_seconds() >= pause_seconds + RETRY_SECONDS_MIN and self._budget.spend()


def _traced(item: Item[bytes], span: RequestSpan) -> Item[bytes]:
    """The same call with the span as its parent. The decision not to sample is passed on as well."""
    if span.traceparent == item.context.traceparent:
        return item
    return item._replace(context=item.context._replace(traceparent=span.traceparent))


def _outcome(method: Method, answer: Carried | ServiceError) -> Outcome:
    if isinstance(answer, ServiceError):
        return answer
    response, replayed = answer
    try:
        return Reply(_parsed(method, response), replayed)
    except ServiceError as error:
        return error


def _serialized(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString(deterministic=True)


def _parsed(method: Method, response: bytes) -> Message:
    """The response message. If it cannot be read, only this call fails, with UNAVAILABLE."""
    try:
        return method.response_type.FromString(response)
    except DecodeError as error:
        log.error("response_unreadable", method=method.path)  # noqa: TRY400 - the error says nothing more
        raise ServiceError(Reason.UNAVAILABLE) from error


def _health_status(payload: bytes) -> int:
    try:
        return int(health_pb2.HealthCheckResponse.FromString(payload).status)
    except DecodeError as error:
        raise UnreadableAnswerError(str(error)) from error


def _expire(future: asyncio.Future[Carried]) -> None:
    if not future.done():
        future.set_exception(ServiceError(Reason.DEADLINE_EXCEEDED))


def _context_metadata(context: Context) -> tuple[tuple[str, str], ...]:
    pairs = (
        (METADATA_USER, context.user_id),
        (METADATA_ROLES, ",".join(sorted(context.roles))),
        (METADATA_KEY, context.idempotency_key),
        (METADATA_REQUEST_ID, context.request_id),
        (METADATA_TRACE, context.traceparent),
    )
    return tuple((key, value) for key, value in pairs if value)
