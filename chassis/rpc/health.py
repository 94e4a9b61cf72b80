"""The gRPC health service (grpc.health.v1): it tells probes and load balancers whether the process serves."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

SERVICE = "grpc.health.v1.Health"
CHECK = f"/{SERVICE}/Check"

# Checks and watches have limits of their own. So a caller that watches, or that opens checks and never sends
# the request, takes no room from the calls.
CHECKS_MAX = 64
WATCHES_MAX = 16
REQUEST_SECONDS_MAX = 5.0

RpcContext = grpc.aio.ServicerContext[Any, Any]
Status = health_pb2.HealthCheckResponse


class HealthService:
    """Answers for the process as a whole, which is the service with the empty name.

    Both methods are served as streams, because gRPC would wait for the request of a unary method for ever.
    """

    def __init__(self) -> None:
        self._started = False
        self._ready = True
        self._stopped = False
        self._changed = asyncio.Event()
        self._checks = 0
        self._watches = 0

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        return {
            "Check": grpc.stream_stream_rpc_method_handler(self._check),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }

    def start(self) -> None:
        """From now on the process serves whenever it is ready."""
        self._started = True
        self._wake_watches()

    def set_ready(self, ready: bool) -> None:
        """Sets whether the process could answer calls now; before the first call of this, it is ready."""
        self._ready = ready
        self._wake_watches()

    def stop(self) -> None:
        """NOT_SERVING from now on. The watches send it and end."""
        self._stopped = True
        self._wake_watches()

    async def _check(self, _: object, context: RpcContext) -> None:
        if self._checks >= CHECKS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many checks")
        self._checks += 1
        try:
            service = await _requested_service(context)
            if service:
                await context.abort(grpc.StatusCode.NOT_FOUND, "only the whole process is known")
            await context.write(self._response(service))
        finally:
            self._checks -= 1

    async def _watch(self, _: object, context: RpcContext) -> None:
        if self._watches >= WATCHES_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watches")
        self._watches += 1
        try:
            service = await _requested_service(context)
            sent = b""
            while True:
                # These three are read together: the state may change again while the response is written.
                changed, stopped, response = self._changed, self._stopped, self._response(service)
                if response != sent:
                    await context.write(response)
                    sent = response
                if stopped:
                    return
                await changed.wait()
        finally:
            self._watches -= 1

    def _response(self, service: str) -> bytes:
        if service:
            status = Status.SERVICE_UNKNOWN
        else:
            serving = self._started and self._ready and not self._stopped
            status = Status.SERVING if serving else Status.NOT_SERVING
        payload: bytes = Status(status=status).SerializeToString()
        return payload

    def _wake_watches(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _requested_service(context: RpcContext) -> str:
    """The name in the request. Ends the RPC when no request comes in time, or when it cannot be read."""
    # The read is not cancelled after the time limit: gRPC's core may still write to the memory of the read.
    reading = asyncio.ensure_future(context.read())
    reading.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait({reading}, timeout=REQUEST_SECONDS_MAX)
    if not reading.done():
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no request came")
    payload = reading.result()
    if payload is grpc.aio.EOF:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no request came")
    try:
        service: str = health_pb2.HealthCheckRequest.FromString(payload).service
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a HealthCheckRequest")
    return service
