"""The gRPC server of a process: every method as a plain unary call, and through the carrier."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from chassis.batch import Outcome, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.rpc.dispatch import Dispatcher
from chassis.rpc.methods import Method
from chassis.rpc.servicing import Handler
from chassis.rpc.stalls import StallWatch
from chassis.rpc.status import to_status
from chassis.rpc.wire import (
    ANSWER_MESSAGE_BYTES_MAX,
    ANSWERS_BYTES_MAX,
    CARRIER_SERVICE,
    MESSAGE_BYTES_MAX,
    METADATA_KEY,
    METADATA_REQUEST_ID,
    METADATA_ROLES,
    METADATA_TOKEN,
    METADATA_TRACE,
    METADATA_USER,
)
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from protos.chassis.v1 import carrier_pb2

# A plain unary call that names no deadline gets this one: every call has a deadline.
DEFAULT_TIMEOUT_SECONDS = 10.0
# Callers ask for a sign of life this often at most (chassis.rpc.carrier asks less often); gRPC's own limit is
# five minutes, after which it cuts the connection of whoever asks more.
PINGS_APART_MS = 1000

RpcContext = grpc.aio.ServicerContext[Any, Any]


class Server:
    """Serves servicers over gRPC, with health and reflection, to callers that know the service token.

    Args:
        bind: host:port; port 0 takes a free one, which `port` then tells.
        handlers: one for each method of each service that is served.
        service_token: the secret that Homeroom's processes share; calls without it are refused.
        in_flight_max: requests under way at once, in all batches together.
        maximum_concurrent_rpcs: plain calls under way and streams that are open, idle lines of many callers
            included.
    """

    def __init__(
        self,
        *,
        bind: str,
        handlers: Sequence[Handler],
        service_token: str,
        tracing: Tracing,
        metrics: Metrics,
        in_flight_max: int = 4096,
        maximum_concurrent_rpcs: int = 4096,
    ) -> None:
        self._token = service_token.encode()
        self._dispatcher = Dispatcher(
            handlers=handlers, tracing=tracing, metrics=metrics, in_flight_max=in_flight_max
        )
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=maximum_concurrent_rpcs,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", ANSWER_MESSAGE_BYTES_MAX),
                ("grpc.http2.min_ping_interval_without_data_ms", PINGS_APART_MS),
                ("grpc.so_reuseport", 0),
            ],
        )
        self._streams: set[asyncio.Task[Any]] = set()
        self._idle_lines: set[asyncio.Task[Any]] = set()
        self._stalls = StallWatch()
        self._stopping = False
        rpc_handlers: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
            CARRIER_SERVICE: {
                "Carry": grpc.unary_unary_rpc_method_handler(self._carry),
                "CarryStream": grpc.stream_stream_rpc_method_handler(self._carry_stream),
            }
        }
        for method in self._dispatcher.methods.values():
            rpc_handlers.setdefault(method.service, {})[method.name] = self._plain_handler(method)
        for service, service_handlers in rpc_handlers.items():
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, service_handlers),)
            )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [*rpc_handlers, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )
        self.port = self._server.add_insecure_port(bind)

    async def start(self) -> None:
        self._stalls.start()
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, *, grace_seconds: float = 5.0) -> None:
        """Says NOT_SERVING, takes no new calls, ends the streams and lets the calls under way finish."""
        await self._health.enter_graceful_shutdown()
        self._stopping = True
        for stream in self._streams:  # they have no end of their own that would be worth waiting for
            stream.cancel()
        for line in self._idle_lines:  # the others end when they have answered
            line.cancel()
        await self._server.stop(grace_seconds)
        self._stalls.stop()

    async def _carry(self, payload: bytes, context: RpcContext) -> bytes:
        await self._authenticate(context)
        return await self._answer(payload, context, on_stream=False)

    async def _carry_stream(self, _: object, context: RpcContext) -> None:
        """Answers one message after the other, until the caller or this process has had enough."""
        await self._authenticate(context)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        while True:
            self._idle_lines.add(task)
            try:
                payload = await context.read()
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
                return
            finally:
                self._idle_lines.discard(task)
            if payload is grpc.aio.EOF:
                return
            await context.write(await self._answer(payload, context, on_stream=True))
            if self._stopping:
                return

    async def _answer(self, payload: bytes, context: RpcContext, *, on_stream: bool) -> bytes:
        try:
            request = carrier_pb2.CarryRequest.FromString(payload)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a CarryRequest")
        method = self._dispatcher.methods.get(request.method)
        if method is None or method.server_streaming:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no unary method {request.method}")
        waited_seconds = self._stalls.seconds() if on_stream else _waited_seconds(request, context)
        sent_at = time.monotonic() - waited_seconds
        answers = await self._dispatcher.run(
            method,
            [
                (
                    carried.request,
                    Context(
                        method=method.path,
                        user_id=carried.user_id,
                        roles=frozenset(carried.roles),
                        idempotency_key=carried.idempotency_key,
                        request_id=carried.request_id,
                        deadline=sent_at + carried.timeout_ms / 1000,
                        traceparent=carried.traceparent,
                    ),
                )
                for carried in request.calls
            ],
        )
        return _carried(answers)

    def _plain_handler(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        async def unary(payload: bytes, context: RpcContext) -> bytes:
            call = await self._call(method, context)
            (answer,) = await self._dispatcher.run(method, [(payload, call)])
            if isinstance(answer, ServiceError):
                await context.abort_with_status(rpc_status.to_status(to_status(answer)))
            assert isinstance(answer, Reply)  # noqa: S101 - abort_with_status raises, which its stub hides
            if answer.replayed:
                context.set_trailing_metadata((("idempotent-replayed", "true"),))
            return answer.payload()

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(partial(self._follow, method))
        return grpc.unary_unary_rpc_method_handler(unary)

    async def _follow(self, method: Method, payload: bytes, context: RpcContext) -> AsyncIterator[bytes]:
        call = await self._call(method, context)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._streams.add(task)
        try:
            if self._stopping:  # it came in the moment in which the others were told
                raise ServiceError(Reason.UNAVAILABLE, retry_after_seconds=0.1)  # noqa: TRY301
            async for message in self._dispatcher.stream(method, payload, call):
                yield message.SerializeToString()
        except ServiceError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            stopping = ServiceError(Reason.UNAVAILABLE, retry_after_seconds=0.1)
            await context.abort_with_status(rpc_status.to_status(to_status(stopping)))
        finally:
            self._streams.discard(task)

    async def _call(self, method: Method, context: RpcContext) -> Context:
        metadata = await self._authenticate(context)
        remaining: float | None = context.time_remaining()  # None without a deadline, whatever the stub says
        if remaining is None:
            # A stream lives until its caller leaves; a unary call must end.
            remaining = math.inf if method.server_streaming else DEFAULT_TIMEOUT_SECONDS
        return Context(
            method=method.path,
            user_id=metadata.get(METADATA_USER, ""),
            roles=frozenset(metadata.get(METADATA_ROLES, "").split(",")) - {""},
            idempotency_key=metadata.get(METADATA_KEY, ""),
            request_id=metadata.get(METADATA_REQUEST_ID, ""),
            deadline=time.monotonic() + remaining,
            traceparent=metadata.get(METADATA_TRACE, ""),
        )

    async def _authenticate(self, context: RpcContext) -> dict[str, str]:
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        if not hmac.compare_digest(metadata.get(METADATA_TOKEN, "").encode(), self._token):
            error = ServiceError(Reason.UNAUTHENTICATED, "The service token is missing or wrong")
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
        return metadata


def _waited_seconds(request: carrier_pb2.CarryRequest, context: RpcContext) -> float:
    """How long the message lay here unread: its own deadline is that of its longest call."""
    remaining: float | None = context.time_remaining()  # None without a deadline, whatever the stub says
    if remaining is None:
        return 0.0
    longest_ms = max((carried.timeout_ms for carried in request.calls), default=0)
    return max(0.0, longest_ms / 1000 - remaining)


def _carried(answers: Sequence[Outcome]) -> bytes:
    """The carrier's response: an outcome for each call, in their order."""
    response = carrier_pb2.CarryResponse()
    room_bytes = ANSWERS_BYTES_MAX
    for answer in answers:
        outcome = response.outcomes.add()
        if isinstance(answer, ServiceError):
            outcome.error.CopyFrom(to_status(answer))
            continue
        payload = answer.payload()
        if len(payload) > room_bytes:
            error = ServiceError(Reason.OVERLOADED, "The answers were too large to travel together")
            outcome.error.CopyFrom(to_status(error))
            continue
        room_bytes -= len(payload)
        outcome.response = payload
        outcome.replayed = answer.replayed
    return response.SerializeToString()
