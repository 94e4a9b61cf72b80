"""One other process, as its callers see it: calls in, answers or a ServiceError out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status
from opentelemetry.trace import SpanKind

from chassis.batch import Reply
from chassis.call import Call
from chassis.coalescer import Coalescer
from chassis.errors import Reason, ServiceError
from chassis.methods import Method, find_method
from chassis.metrics import Metrics
from chassis.retries import ATTEMPTS_MAXIMUM, Breaker, RetryBudget, backoff_seconds
from chassis.status import from_status
from chassis.tracing import RequestSpan, Tracing
from chassis.wire import (
    CARRIER_SERVICE,
    MESSAGE_BYTES_MAXIMUM,
    METADATA_KEY,
    METADATA_REQUEST_ID,
    METADATA_ROLES,
    METADATA_TOKEN,
    METADATA_TRACE,
    METADATA_USER,
)
from protos.chassis.v1 import carrier_pb2

CARRY = f"/{CARRIER_SERVICE}/Carry"
CARRIED_CALLS_MAXIMUM = 256
# A try that fails may be followed by another only while this much time is left.
WORTH_TRYING_SECONDS = 0.15

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One call on its way into a batch."""

    payload: bytes
    call: Call


Carried = tuple[bytes, bool]  # the serialized response, and whether it is a replay


class Upstream:
    """Calls one other process.

    Calls to one method gather in a coalescer; retries, the retry budget and the breaker live here, so that
    there is one place per edge where a call is sent again. gRPC's own retries are off: each attempt is a
    span.

    Args:
        target: host:port of the process.
        lanes: batches of one method under way at once.
        waiting_maximum: calls of one method that may wait for a lane.
        attempts: how often a retryable call is tried in all.
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
        batch_maximum: int = 64,
        waiting_maximum: int = 2048,
        attempts: int = ATTEMPTS_MAXIMUM,
    ) -> None:
        self._name = name
        self._tracing = tracing
        self._metadata = ((METADATA_TOKEN, service_token),)
        self._lanes = lanes
        self._batch_maximum = batch_maximum
        self._waiting_maximum = waiting_maximum
        self._attempts = attempts
        self._budget = RetryBudget()
        self._breaker = Breaker()
        self._methods: dict[str, tuple[Method, Coalescer[_Ask, Carried]]] = {}
        self._channel = grpc.aio.insecure_channel(
            target,
            options=[
                ("grpc.enable_retries", 0),
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAXIMUM),
                ("grpc.max_send_message_length", MESSAGE_BYTES_MAXIMUM),
                # A restarted process is found again within a second, not within gRPC's two minutes.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self._carry_rpc: Any = self._channel.unary_unary(CARRY)
        metrics.gauge_of(
            "upstream_breaker_open",
            "1 while calls to an upstream are refused because it gave no answers.",
            lambda: float(self._breaker.open),
            label="upstream",
            value=name,
        )
        metrics.gauge_of(
            "upstream_waiting_calls",
            "Calls that wait for a lane to an upstream.",
            lambda: float(sum(coalescer.waiting for _, coalescer in self._methods.values())),
            label="upstream",
            value=name,
        )

    async def call(self, path: str, request: Message, call: Call) -> Reply[Any]:
        """Sends one call, together with its neighbours.

        Raises:
            ServiceError: what the upstream refused, or UNAVAILABLE, DEADLINE_EXCEEDED, OVERLOADED.
        """
        method, coalescer = self._method(path)
        payload = request.SerializeToString(deterministic=True)
        self._budget.earn()
        attempt = 1
        while True:
            span = self._tracing.begin(path, traceparent=call.traceparent, kind=SpanKind.CLIENT)
            try:
                sent = call if not span.sampled else replace(call, traceparent=span.traceparent)
                response, replayed = await self._submit(coalescer, _Ask(payload, sent))
            except ServiceError as error:
                span.error(error.reason.name)
                pause = self._pause_before_retry(method, error, call.deadline, attempt)
                if pause is None:
                    raise
            else:
                return Reply(method.response_type.FromString(response), replayed)
            finally:
                span.end()
            await asyncio.sleep(pause)
            attempt += 1

    async def call_many(
        self, path: str, requests: Sequence[tuple[Message, Call]]
    ) -> list[Reply[Any] | ServiceError]:
        """Sends many calls to one method as one message, at once; the outcomes come in their order."""
        method, _ = self._method(path)
        outcomes: list[Reply[Any] | ServiceError] = [ServiceError(Reason.INTERNAL)] * len(requests)
        left = [
            (place, _Ask(request.SerializeToString(deterministic=True), call))
            for place, (request, call) in enumerate(requests)
        ]
        self._budget.earn(len(requests))
        attempt = 1
        while left:
            spans = [
                self._tracing.begin(path, traceparent=ask.call.traceparent, kind=SpanKind.CLIENT)
                for _, ask in left
            ]
            answers = await self._send_chunks(
                method, [_traced(ask, span) for (_, ask), span in zip(left, spans, strict=True)]
            )
            again: list[tuple[int, _Ask]] = []
            pause = 0.0
            for (place, ask), answer, span in zip(left, answers, spans, strict=True):
                if isinstance(answer, ServiceError):
                    span.error(answer.reason.name)
                    wait = self._pause_before_retry(method, answer, ask.call.deadline, attempt)
                    if wait is not None:
                        again.append((place, ask))
                        pause = max(pause, wait)
                    outcomes[place] = answer
                else:
                    outcomes[place] = Reply(method.response_type.FromString(answer[0]), answer[1])
                span.end()
            left = again
            if left:
                await asyncio.sleep(pause)
                attempt += 1
        return outcomes

    async def stream(self, path: str, request: Message, call: Call) -> AsyncIterator[Any]:
        """Follows a server-streaming method until it ends or the caller stops; it has no deadline.

        Raises:
            ServiceError: what the upstream refused, or UNAVAILABLE when it went away.
        """
        method = find_method(path)
        rpc: Any = self._channel.unary_stream(path, response_deserializer=method.response_type.FromString)
        responses = rpc(request.SerializeToString(), metadata=(*self._metadata, *_context_metadata(call)))
        try:
            async for response in responses:
                yield response
        except grpc.aio.AioRpcError as error:
            status = rpc_status.from_call(error)
            raise _from_rpc_error(error) if status is None else from_status(status) from error
        finally:
            responses.cancel()

    async def check_health(self) -> None:
        """Asks the process' gRPC health service; for a readiness check.

        Raises:
            ServiceError: it does not answer, or does not serve.
        """
        rpc: Any = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString
        )
        try:
            response = await rpc(health_pb2.HealthCheckRequest().SerializeToString(), timeout=1.0)
        except grpc.aio.AioRpcError as error:
            raise _from_rpc_error(error) from error
        if response.status != health_pb2.HealthCheckResponse.SERVING:
            raise ServiceError(Reason.UNAVAILABLE, f"{self._name} is not serving")

    async def close(self) -> None:
        """Lets what is under way finish, then closes the channel."""
        for _, coalescer in self._methods.values():
            await coalescer.close()
        await self._channel.close()

    def _method(self, path: str) -> tuple[Method, Coalescer[_Ask, Carried]]:
        known = self._methods.get(path)
        if known is None:
            method = find_method(path)

            async def send(asks: Sequence[_Ask]) -> list[Carried | ServiceError]:
                return await self._send(method, asks)

            coalescer = Coalescer(
                send=send,
                lanes=self._lanes,
                batch_maximum=self._batch_maximum,
                waiting_maximum=self._waiting_maximum,
            )
            known = self._methods[path] = (method, coalescer)
        return known

    async def _submit(self, coalescer: Coalescer[_Ask, Carried], ask: _Ask) -> Carried:
        """Waits for the answer, but not beyond the caller's own deadline, whatever its batch does."""
        self._breaker.check()
        future = coalescer.submit(ask)
        timer = asyncio.get_running_loop().call_later(ask.call.remaining_seconds(), _expire, future)
        try:
            return await future
        finally:
            timer.cancel()

    def _pause_before_retry(
        self, method: Method, error: ServiceError, deadline: float, attempt: int
    ) -> float | None:
        """How long to wait before trying again, in seconds; None when another try is not allowed."""
        if error.reason is not Reason.UNAVAILABLE or not method.retryable or attempt >= self._attempts:
            return None
        pause = max(backoff_seconds(attempt), error.retry_after_seconds or 0.0)
        if deadline - time.monotonic() < pause + WORTH_TRYING_SECONDS or not self._budget.spend():
            return None
        return pause

    async def _send_chunks(self, method: Method, asks: Sequence[_Ask]) -> list[Carried | ServiceError]:
        chunks = [asks[at : at + CARRIED_CALLS_MAXIMUM] for at in range(0, len(asks), CARRIED_CALLS_MAXIMUM)]
        try:
            self._breaker.check()
        except ServiceError as error:
            return [error] * len(asks)
        answers = await asyncio.gather(*(self._send(method, chunk) for chunk in chunks))
        return [answer for chunk in answers for answer in chunk]

    async def _send(self, method: Method, asks: Sequence[_Ask]) -> list[Carried | ServiceError]:
        """Carries a batch. A fault of the line is every call's fault; it is returned, never raised."""
        now = time.monotonic()
        message = carrier_pb2.CarryRequest(method=method.path)
        longest = 0.0
        for ask in asks:
            call = ask.call
            remaining = call.deadline - now
            longest = max(longest, remaining)
            message.calls.add(
                request=ask.payload,
                timeout_ms=max(0, int(remaining * 1000)),
                user_id=call.user_id,
                roles=call.roles,
                idempotency_key=call.idempotency_key,
                request_id=call.request_id,
                traceparent=call.traceparent,
            )
        try:
            payload = await self._carry_rpc(
                message.SerializeToString(), timeout=max(longest, 0.001), metadata=self._metadata
            )
            response = carrier_pb2.CarryResponse.FromString(payload)
        except grpc.aio.AioRpcError as error:
            self._breaker.failed()
            return [_from_rpc_error(error)] * len(asks)
        except DecodeError:
            log.exception("carrier_response_unreadable", upstream=self._name, method=method.path)
            return [ServiceError(Reason.INTERNAL)] * len(asks)
        self._breaker.succeeded()
        if len(response.outcomes) != len(asks):
            log.error("carrier_miscounted", upstream=self._name, method=method.path)
            return [ServiceError(Reason.INTERNAL)] * len(asks)
        return [
            from_status(outcome.error) if outcome.HasField("error") else (outcome.response, outcome.replayed)
            for outcome in response.outcomes
        ]


def _traced(ask: _Ask, span: RequestSpan) -> _Ask:
    return _Ask(ask.payload, replace(ask.call, traceparent=span.traceparent)) if span.sampled else ask


def _expire(future: asyncio.Future[Carried]) -> None:
    if not future.done():
        future.set_exception(ServiceError(Reason.DEADLINE_EXCEEDED))


def _context_metadata(call: Call) -> tuple[tuple[str, str], ...]:
    pairs = (
        (METADATA_USER, call.user_id),
        (METADATA_ROLES, ",".join(sorted(call.roles))),
        (METADATA_KEY, call.idempotency_key),
        (METADATA_REQUEST_ID, call.request_id),
        (METADATA_TRACE, call.traceparent),
    )
    return tuple((key, value) for key, value in pairs if value)


def _from_rpc_error(error: grpc.aio.AioRpcError) -> ServiceError:
    """What a fault of the line, or of the carrier itself, means to a caller."""
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return ServiceError(Reason.UNAVAILABLE, retry_after_seconds=0.1)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServiceError(Reason.DEADLINE_EXCEEDED)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ServiceError(Reason.OVERLOADED, retry_after_seconds=1.0)
    if code is grpc.StatusCode.CANCELLED:
        # The server was stopped while it worked on the batch.
        return ServiceError(Reason.UNAVAILABLE, retry_after_seconds=0.1)
    log.error("carrier_failed", code=code.name, details=error.details())
    return ServiceError(Reason.INTERNAL)
