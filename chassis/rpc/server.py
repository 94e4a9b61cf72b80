"""The gRPC server of a process: it serves each method as a plain RPC, and unary ones also by the carrier."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_reflection.v1alpha import reflection

from chassis.batch import Outcome, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.rpc.authentication import Authentication, not_served, refuse
from chassis.rpc.dispatch import Dispatcher
from chassis.rpc.health import CHECKS_MAX, SERVICE, WATCHES_MAX, HealthService
from chassis.rpc.methods import Method
from chassis.rpc.room import in_turns, no_room
from chassis.rpc.servicing import Handler
from chassis.rpc.stalls import StallWatch
from chassis.rpc.status import to_status
from chassis.rpc.tls import TlsIdentity
from chassis.rpc.wire import (
    ANSWER_MESSAGE_BYTES_MAX,
    ANSWERS_BYTES_MAX,
    CARRIER_SERVICE,
    MESSAGE_BYTES_MAX,
    METADATA_KEY,
    METADATA_REQUEST_ID,
    METADATA_ROLES,
    METADATA_TRACE,
    METADATA_USER,
)
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from protos.chassis.v1 import carrier_pb2

# Every call has a deadline. A plain unary call without one gets this one.
DEFAULT_TIMEOUT_SECONDS = 10.0
# The least time between two pings of one caller; chassis.rpc.carrier pings less often. gRPC's default is five
# minutes, and it closes the connection of a caller that pings more often.
PINGS_APART_MS = 1000
# How long `stop` waits for the ends of idle lines to be sent: a caller may have stopped reading.
END_LINES_SECONDS_MAX = 1.0

log = get_logger(__name__)

RpcContext = grpc.aio.ServicerContext[Any, Any]


class Server:
    """Serves handlers over gRPC, with health and reflection, to callers that send the service token.

    A health check needs no token, because a probe has none.

    Args:
        bind: host:port; port 0 takes a free port, and `port` is its number after `start`.
        handlers: one for each method of each service that is served.
        service_token: the secret that Homeroom's processes share; RPCs without it are refused.
        identity: the certificate of this process, for mutual TLS; without it the port is plain text.
        peers: with mutual TLS, the names of those who may call, as their certificates have them.
        in_flight_max: requests in flight at once, over all batches.
        concurrent_rpcs_max: plain RPCs and open streams at once; the idle lines of all callers also count.
    """

    def __init__(
        self,
        *,
        bind: str,
        handlers: Sequence[Handler],
        service_token: str,
        tracing: Tracing,
        metrics: Metrics,
        identity: TlsIdentity | None = None,
        peers: Collection[str] = (),
        in_flight_max: int = 4096,
        concurrent_rpcs_max: int = 4096,
    ) -> None:
        self._dispatcher = Dispatcher(
            handlers=handlers, tracing=tracing, metrics=metrics, in_flight_max=in_flight_max
        )
        self._server = grpc.aio.server(
            interceptors=[
                Authentication(
                    service_token=service_token, peers=None if identity is None else frozenset(peers)
                )
            ],
            # The checks and watches of the health service come on top; they have limits of their own.
            maximum_concurrent_rpcs=concurrent_rpcs_max + CHECKS_MAX + WATCHES_MAX,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", ANSWER_MESSAGE_BYTES_MAX),
                ("grpc.http2.min_ping_interval_without_data_ms", PINGS_APART_MS),
                ("grpc.so_reuseport", 0),
            ],
        )
        self._streams: set[asyncio.Task[Any]] = set()
        self._idle_lines: set[RpcContext] = set()
        self._stalls = StallWatch()
        # It names the clock of this process; a restarted process may run elsewhere, with another clock.
        self._clock = random.getrandbits(63) | 1
        self._stopping = False
        self._health = HealthService()
        rpc_handlers: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
            CARRIER_SERVICE: {"CarryStream": grpc.stream_stream_rpc_method_handler(self._carry_stream)},
            SERVICE: self._health.handlers(),
        }
        for method in self._dispatcher.methods.values():
            rpc_handlers.setdefault(method.service, {})[method.name] = self._plain_handler(method)
        for service, service_handlers in rpc_handlers.items():
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, service_handlers),)
            )
        reflection.enable_server_reflection([*rpc_handlers, reflection.SERVICE_NAME], self._server)
        self._identity = identity
        self._bind = bind
        self._port = 0

    @property
    def port(self) -> int:
        """The port listened on, from `start` on."""
        return self._port

    async def start(self) -> None:
        """Serves from now on, and reports it in the health service; raises OSError if it cannot listen."""
        try:
            if self._identity is None:
                self._port = self._server.add_insecure_port(self._bind)
            else:
                self._port = self._server.add_secure_port(self._bind, self._identity.server_credentials())
        except RuntimeError as error:  # the text of gRPC has no reason
            raise OSError(f"cannot listen on {self._bind}") from error
        self._stalls.start()
        await self._server.start()
        self._health.start()

    async def set_serving(self, serving: bool) -> None:
        """Tells the health service whether this process is ready, for example whether its database answers.

        The server accepts calls in both cases: the health service is for load balancers. Before `start` and
        after `stop` it always reports NOT_SERVING.
        """
        self._health.set_ready(serving)

    async def stop(self, *, grace_seconds: float = 5.0) -> None:
        """Reports NOT_SERVING, takes no new calls, ends the streams, and lets the calls in flight finish."""
        self._health.stop()
        self._stopping = True
        for stream in self._streams:  # streams do not end by themselves
            stream.cancel()
        # Only the idle lines end here. Each other line ends after its answer.
        if endings := [asyncio.create_task(_end_line(line)) for line in self._idle_lines]:
            await asyncio.wait(endings, timeout=END_LINES_SECONDS_MAX)
        await self._server.stop(grace_seconds)
        self._stalls.stop()

    async def _carry_stream(self, _: object, context: RpcContext) -> None:
        """Answers the messages of a line one by one, until the caller or this process ends the line."""
        while not self._stopping:
            self._idle_lines.add(context)
            try:
                payload = await context.read()
            finally:
                self._idle_lines.discard(context)
            if payload is grpc.aio.EOF:
                return
            await context.write(await self._answer(payload, context))
        await refuse(context, _stopping_error())

    async def _answer(self, payload: bytes, context: RpcContext) -> bytes:
        try:
            request = carrier_pb2.CarryRequest.FromString(payload)
        except DecodeError:
            await refuse(context, ServiceError(Reason.INVALID_ARGUMENT, "This is not a CarryRequest"))
        method = self._dispatcher.methods.get(request.method)
        if method is None or method.server_streaming:
            count = len(request.calls)
            return _carried([not_served(request.method)] * count, request)
        received_at = time.monotonic()
        if request.clock == self._clock:
            sent_at = min(received_at, request.sent_at)  # in this order, a NaN is not the result
        else:
            sent_at = received_at - self._stalls.seconds()
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
        carried = _carried(answers, request)
        # The bytes of two messages in a row are the bytes of both merged.
        return (
            carried
            + carrier_pb2.CarryResponse(
                clock=self._clock, received_at=received_at, answered_at=time.monotonic()
            ).SerializeToString()
        )

    def _plain_handler(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        async def unary(payload: bytes, context: RpcContext) -> bytes:
            (answer,) = await self._dispatcher.run(method, [(payload, _context_of(method, context))])
            if isinstance(answer, ServiceError):
                await refuse(context, answer)
            assert isinstance(answer, Reply)  # noqa: S101 - `refuse` raises
            if answer.replayed:
                context.set_trailing_metadata((("idempotent-replayed", "true"),))
            return answer.payload()

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(partial(self._follow, method))
        return grpc.unary_unary_rpc_method_handler(unary)

    async def _follow(self, method: Method, payload: bytes, context: RpcContext) -> AsyncIterator[bytes]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._streams.add(task)
        try:
            if self._stopping:  # the stream began after `stop` had cancelled the others
                raise _stopping_error()
            # Closed here: a caller who leaves between two messages ends the stream at once.
            async with aclosing(
                self._dispatcher.stream(method, payload, _context_of(method, context))
            ) as messages:
                async for message in messages:
                    yield message
        except ServiceError as error:
            await refuse(context, error)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            await refuse(context, _stopping_error())
        finally:
            self._streams.discard(task)


def _context_of(method: Method, context: RpcContext) -> Context:
    """The context of a plain RPC, from its metadata."""
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    remaining: float | None = context.time_remaining()  # None without a deadline, which the type stub omits
    if remaining is None:
        # A stream runs until its caller leaves. A unary call must end.
        remaining = math.inf if method.server_streaming else DEFAULT_TIMEOUT_SECONDS
    return Context(
        method=method.path,
        user_id=unquote(metadata.get(METADATA_USER, "")),
        roles=frozenset(metadata.get(METADATA_ROLES, "").split(",")) - {""},
        idempotency_key=metadata.get(METADATA_KEY, ""),
        request_id=metadata.get(METADATA_REQUEST_ID, ""),
        deadline=time.monotonic() + remaining,
        traceparent=metadata.get(METADATA_TRACE, ""),
    )


async def _end_line(line: RpcContext) -> None:
    with suppress(Exception):  # `refuse` ends the RPC by raising, and the caller may have left
        await refuse(line, _stopping_error())


def _stopping_error() -> ServiceError:
    return ServiceError(Reason.UNAVAILABLE, "This process is stopping", retry_after_seconds=0.1)


def _carried(answers: Sequence[Outcome], request: carrier_pb2.CarryRequest) -> bytes:
    """The carrier's response: an outcome for each call, in their order; `in_turns` decides who has room."""
    payloads = [answer.payload() if isinstance(answer, Reply) else b"" for answer in answers]
    refused: Collection[int] = ()
    if sum(map(len, payloads)) > ANSWERS_BYTES_MAX:
        refused = _without_room(payloads, [carried.user_id for carried in request.calls])
    response = carrier_pb2.CarryResponse()
    add = response.outcomes.add
    for place, (answer, payload) in enumerate(zip(answers, payloads, strict=True)):
        if isinstance(answer, Reply) and place not in refused:
            add(response=payload, replayed=answer.replayed)
        else:
            add(error=_status_of(answer))
    return response.SerializeToString()


def _without_room(payloads: Sequence[bytes], users: Sequence[str]) -> frozenset[int]:
    """The places of the answers that do not fit into the message."""
    refused: set[int] = set()
    room_bytes = ANSWERS_BYTES_MAX
    for place in in_turns(users):
        if len(payloads[place]) <= room_bytes:
            room_bytes -= len(payloads[place])
        else:
            refused.add(place)
    return frozenset(refused)


def _status_of(answer: Outcome) -> status_pb2.Status:
    """The status of a refusal, or of an answer for which the message has no room."""
    try:
        return to_status(answer if isinstance(answer, ServiceError) else no_room())
    except Exception:
        log.exception("refusal_not_rendered")
        return to_status(ServiceError(Reason.INTERNAL))
