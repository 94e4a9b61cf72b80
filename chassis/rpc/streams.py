"""The calling side of server-streaming methods."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any

from google.protobuf.message import Message

from chassis.context import Context
from chassis.errors import ServiceError
from chassis.rpc.breakers import Breakers
from chassis.rpc.carrier import Carrier
from chassis.rpc.faults import cancelled_by_caller
from chassis.rpc.methods import Method
from chassis.rpc.payloads import metadata_of, parsed, serialized


async def follow(
    carrier: Carrier,
    breakers: Breakers,
    method: Method,
    request: Message,
    context: Context,
    *,
    seconds_max: float | None,
) -> AsyncGenerator[Any]:
    """The messages of a stream. Closing the generator cancels the call at the other process.

    The breakers count the first message as an answer, and a stream that breaks as none. `seconds_max` is the
    deadline of the whole stream; None for a stream without one.

    Raises:
        ServiceError: the upstream's refusal, or UNAVAILABLE when the stream broke.
    """
    responses: Any = None
    answered = False
    try:
        rpc: Any = carrier.channel.unary_stream(method.path)
        responses = rpc(
            serialized(request), metadata=(*carrier.metadata, *metadata_of(context)), timeout=seconds_max
        )
        async for payload in responses:
            if not answered:
                answered = True
                breakers.succeeded(method.path)
            yield parsed(method, payload)
    except ServiceError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        if cancelled_by_caller(error):
            raise
        raise carrier.failed(error, path=method.path, timeout_seconds=math.inf) from error
    finally:
        if responses is not None:
            responses.cancel()
