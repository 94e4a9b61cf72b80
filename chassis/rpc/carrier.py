"""The line to one other process: many calls to one method in one message, and what a fault of it means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from chassis.rpc.lines import LineLostError, Lines
from chassis.rpc.retries import Breaker
from chassis.rpc.status import from_status
from chassis.rpc.wire import (
    ANSWER_MESSAGE_BYTES_MAX,
    CARRIED_CALLS_MAX,
    MESSAGE_BYTES_MAX,
    METADATA_TOKEN,
    REQUEST_BYTES_MAX,
)
from chassis.telemetry.logs import get_logger
from protos.chassis.v1 import carrier_pb2

# A message is closed before it grows beyond this, so that one large request does not slow 255 small ones.
MESSAGE_BYTES_USUAL = 4 * 1024 * 1024
# No message waits longer, whatever the deadlines in it are: a stream's is infinite.
TIMEOUT_SECONDS_MAX = 600.0
# A message that got no answer in less than this says more about its caller than about the upstream.
PATIENCE_SECONDS = 1.0
# A peer that is silent for this long is asked for a sign of life, and given up after as long again. A process
# that is stopped, or a host without power, keeps its connections open: nothing else would notice before the
# deadlines, and a stream has none.
SILENCE_MS = 3000
CONNECT_MS_MAX = 5000

log = get_logger(__name__)

Carried = tuple[bytes, bool]  # the serialized response, and whether it is a replay


@dataclass(slots=True)
class _Message:
    """What travels together, and where each call of it came in the batch."""

    request: carrier_pb2.CarryRequest
    places: list[int]
    payload_bytes: int = 0
    timeout_seconds: float = 0.0


class Carrier:
    """A channel to one process, and how that process has done lately (`breaker`)."""

    def __init__(self, *, name: str, target: str, service_token: str) -> None:
        self._name = name
        self.breaker = Breaker()
        self.metadata = ((METADATA_TOKEN, service_token),)
        self.channel = grpc.aio.insecure_channel(
            target,
            options=[
                ("grpc.enable_retries", 0),
                ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_receive_message_length", ANSWER_MESSAGE_BYTES_MAX),
                # A restarted process is found again within a second, not within gRPC's two minutes; the
                # "minimum" is in truth how long one attempt to connect may take.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
                # Without the ping's own time limit gRPC waits a minute for the sign of life.
                ("grpc.keepalive_time_ms", SILENCE_MS),
                ("grpc.http2.ping_timeout_ms", SILENCE_MS),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self._lines = Lines(self.channel, metadata=self.metadata)

    async def carry(self, path: str, items: Sequence[Item[bytes]]) -> list[Carried | ServiceError]:
        """Sends calls to one method, in as few messages as their size allows; outcomes in their order.

        Never raises for what a call contains or for what happens on the way: each outcome says it.
        """
        outcomes: list[Carried | ServiceError | None] = [None] * len(items)
        messages = _pack(path, items, outcomes)
        if len(messages) == 1:
            await self._send(messages[0], outcomes)
        elif messages:
            await asyncio.gather(*(self._send(message, outcomes) for message in messages))
        return [ServiceError(Reason.INTERNAL) if each is None else each for each in outcomes]

    async def close(self, grace_seconds: float | None) -> None:
        """Closes the channel, when what is under way has ended or the grace is over."""
        self._lines.close()
        await self.channel.close(grace_seconds)

    async def _send(self, message: _Message, outcomes: list[Carried | ServiceError | None]) -> None:
        try:
            payload = await self._lines.exchange(
                message.request.SerializeToString(), timeout_seconds=message.timeout_seconds
            )
            response = carrier_pb2.CarryResponse.FromString(payload)
        except TimeoutError:
            self._note(grpc.StatusCode.DEADLINE_EXCEEDED, message.timeout_seconds)
            _fill(message, outcomes, ServiceError(Reason.DEADLINE_EXCEEDED))
            return
        except LineLostError:
            self.breaker.failed()
            _fill(message, outcomes, ServiceError(Reason.UNAVAILABLE, retry_after_seconds=0.1))
            return
        except grpc.aio.AioRpcError as error:
            self._note(error.code(), message.timeout_seconds)
            _fill(message, outcomes, from_rpc_error(error, upstream=self._name))
            return
        except (grpc.aio.UsageError, asyncio.CancelledError) as error:
            if not is_channel_closed(error):
                raise
            _fill(message, outcomes, ServiceError(Reason.UNAVAILABLE))
            return
        except DecodeError:
            log.exception("carrier_response_unreadable", upstream=self._name, method=message.request.method)
            _fill(message, outcomes, ServiceError(Reason.INTERNAL))
            return
        self.breaker.succeeded()
        if len(response.outcomes) != len(message.places):
            log.error("carrier_miscounted", upstream=self._name, method=message.request.method)
            _fill(message, outcomes, ServiceError(Reason.INTERNAL))
            return
        for place, outcome in zip(message.places, response.outcomes, strict=True):
            if outcome.HasField("error"):
                outcomes[place] = from_status(outcome.error)
            else:
                outcomes[place] = (outcome.response, outcome.replayed)

    def _note(self, code: grpc.StatusCode, timeout_seconds: float) -> None:
        """What a failed message tells about the upstream: a refusal is an answer, impatience is nothing."""
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and timeout_seconds < PATIENCE_SECONDS:
            self.breaker.undecided()
        elif code in _NO_ANSWER:
            self.breaker.failed()
        else:
            self.breaker.succeeded()


_NO_ANSWER = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)


def _pack(
    path: str, items: Sequence[Item[bytes]], outcomes: list[Carried | ServiceError | None]
) -> list[_Message]:
    """Puts calls into messages; what cannot be sent gets its outcome here and hurts no neighbour."""
    now = time.monotonic()
    messages: list[_Message] = []
    message: _Message | None = None
    for place, item in enumerate(items):
        context = item.context
        size = len(item.request)
        remaining = min(context.deadline - now, TIMEOUT_SECONDS_MAX)
        if remaining <= 0.0:
            outcomes[place] = ServiceError(Reason.DEADLINE_EXCEEDED)
            continue
        if size > REQUEST_BYTES_MAX:
            outcomes[place] = ServiceError(Reason.PAYLOAD_TOO_LARGE)
            continue
        if (
            message is None
            or len(message.places) == CARRIED_CALLS_MAX
            or message.payload_bytes + size > MESSAGE_BYTES_USUAL
        ):
            message = _Message(carrier_pb2.CarryRequest(method=path), [])
            messages.append(message)
        try:
            message.request.calls.add(
                request=item.request,
                timeout_ms=int(remaining * 1000),
                user_id=context.user_id,
                roles=context.roles,
                idempotency_key=context.idempotency_key,
                request_id=context.request_id,
                traceparent=context.traceparent,
            )
        except ValueError:  # half a surrogate pair, as a careless parser makes of bytes that are not UTF-8
            outcomes[place] = ServiceError(Reason.INVALID_ARGUMENT, "The key or a header is not valid text")
            continue
        message.places.append(place)
        message.payload_bytes += size
        message.timeout_seconds = max(message.timeout_seconds, remaining)
    return [message for message in messages if message.places]


def _fill(message: _Message, outcomes: list[Carried | ServiceError | None], error: ServiceError) -> None:
    for place in message.places:
        outcomes[place] = error


def from_rpc_error(error: grpc.aio.AioRpcError, *, upstream: str) -> ServiceError:
    """What a fault of the line, or what the carrier itself refuses, means to a caller."""
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServiceError(Reason.DEADLINE_EXCEEDED)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ServiceError(Reason.OVERLOADED, retry_after_seconds=1.0)
    if code in _NO_ANSWER:  # CANCELLED: the server was stopped while it worked on it
        return ServiceError(Reason.UNAVAILABLE, retry_after_seconds=0.1)
    log.error("rpc_failed", upstream=upstream, code=code.name, details=error.details())
    return ServiceError(Reason.INTERNAL)


def is_channel_closed(error: BaseException) -> bool:
    """Whether an RPC ended because its channel was closed, and not because its caller was cancelled."""
    task = asyncio.current_task()
    return isinstance(error, grpc.aio.UsageError) or (task is not None and task.cancelling() == 0)
