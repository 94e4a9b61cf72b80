"""Authentication of gRPC callers: they send the service token and, with mutual TLS, have one of a few names.

Health checks need no token.
"""

from __future__ import annotations

import hmac
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
import grpc.aio
from grpc_status import rpc_status

from chassis.errors import Reason, ServiceError
from chassis.rpc.health import CHECK
from chassis.rpc.status import to_status
from chassis.rpc.tls import names_of
from chassis.rpc.wire import METADATA_TOKEN
from chassis.telemetry.logs import get_logger

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
RpcContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

log = get_logger(__name__)


class Authentication(grpc.aio.ServerInterceptor):
    """Refuses every RPC without the service token, before its handler is looked up.

    Args:
        peers: with mutual TLS, the names of those who may call; None without TLS. A line is checked once,
            when it is opened, so messages cost nothing more.
    """

    def __init__(self, *, service_token: str, peers: frozenset[str] | None = None) -> None:
        self._token = service_token.encode()
        self._peers = peers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        if method != CHECK and not self._has_token(handler_call_details.invocation_metadata or ()):
            return _refusing(ServiceError(Reason.UNAUTHENTICATED, "The service token is missing or wrong"))
        handler = await continuation(handler_call_details)
        if handler is None:
            return _refusing(not_served(method))
        return handler if self._peers is None or method == CHECK else _guarded(handler, self._check_peer)

    async def _check_peer(self, context: RpcContext) -> None:
        """Ends the RPC of a peer that may not call. Its certificate is valid: TLS has checked that."""
        names = names_of(context.auth_context())
        if self._peers is not None and names.isdisjoint(self._peers):
            log.warning("peer_refused", names=sorted(names))
            await refuse(context, ServiceError(Reason.UNAUTHENTICATED, "This peer may not call here"))

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


def _guarded(handler: Handler, check: Callable[[RpcContext], Awaitable[None]]) -> Handler:
    """The same handler, which first checks the peer. An interceptor cannot do it: it has no certificate."""
    act: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

    async def answer(request: Any, context: RpcContext) -> Any:
        await check(context)
        return await act(request, context)

    async def follow(request: Any, context: RpcContext) -> AsyncIterator[Any]:
        await check(context)
        async with aclosing(act(request, context)) as messages:
            async for message in messages:
                yield message

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    guarded: Any = follow if inspect.isasyncgenfunction(act) else answer
    return make(guarded, handler.request_deserializer, handler.response_serializer)
