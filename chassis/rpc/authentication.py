"""Authentication of gRPC callers: they must send the service token. Health checks need no token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from grpc_status import rpc_status

from chassis.errors import Reason, ServiceError
from chassis.rpc.health import CHECK
from chassis.rpc.status import to_status
from chassis.rpc.wire import METADATA_TOKEN

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Authentication(grpc.aio.ServerInterceptor):
    """Refuses every RPC without the service token, before its handler is looked up."""

    def __init__(self, *, service_token: str) -> None:
        self._token = service_token.encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        if method != CHECK and not self._has_token(handler_call_details.invocation_metadata or ()):
            return _refusing(ServiceError(Reason.UNAUTHENTICATED, "The service token is missing or wrong"))
        return await continuation(handler_call_details) or _refusing(not_served(method))

    def _has_token(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        token = next((value for key, value in metadata if key == METADATA_TOKEN), "")
        return hmac.compare_digest(token.encode() if isinstance(token, str) else token, self._token)


def not_served(path: str) -> ServiceError:
    """UNAVAILABLE: a process of the previous version does not know a new method, but its successor will."""
    return ServiceError(Reason.UNAVAILABLE, f"This process does not serve {path}")


async def refuse(context: grpc.aio.ServicerContext[Any, Any], error: ServiceError) -> None:
    """Ends an RPC with a status of ours. It always raises; the type stub of gRPC does not say so."""
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


def _refusing(error: ServiceError) -> Handler:
    async def answer(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await refuse(context, error)

    # This is a stream handler even for a unary method: for a unary handler, gRPC waits for the request, for
    # ever if the caller sends none.
    return grpc.stream_stream_rpc_method_handler(answer)
