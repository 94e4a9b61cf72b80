"""The channel to one other process: many calls to one method travel in one message."""

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
from chassis.rpc.breakers import Breakers
from chassis.rpc.clocks import PeerClock
from chassis.rpc.faults import UnreadableAnswerError, cancelled_by_caller, fault_of
from chassis.rpc.lines import Lines
from chassis.rpc.status import from_status
from chassis.rpc.tls import TlsIdentity
from chassis.rpc.wire import (
    ANSWER_MESSAGE_BYTES_MAX,
    CARRIED_CALLS_MAX,
    CONTEXT_CHARACTERS_MAX,
    MESSAGE_BYTES_MAX,
    METADATA_BYTES_MAX,
    METADATA_TOKEN,
    REQUEST_BYTES_MAX,
)
from protos.chassis.v1 import carrier_pb2

# A message gets no more calls once it would be larger than this. So a large request does not slow the 255
# small ones of its batch.
MESSAGE_BYTES_USUAL = REQUEST_BYTES_MAX
# No message waits longer than this for its answer, even if its deadlines are later: a stream has no deadline.
TIMEOUT_SECONDS_MAX = 600.0
# A message with a shorter timeout than this does not count as a failure of the upstream: its caller may
# simply have waited too briefly.
PATIENCE_SECONDS = 1.0
# gRPC sends a ping to a peer that is silent for this long. If the ping gets no answer within the same time,
# gRPC closes the connection. A stopped process, or a host without power, keeps its connections open: without
# the ping only the deadlines would show it, and a stream has no deadline.
SILENCE_MS = 3000
CONNECT_MS_MAX = 5000

Carried = tuple[bytes, bool]
"""The serialized response, and whether it is a replay."""

UNSENT = ServiceError(Reason.UNAVAILABLE)
"""Stands where the outcome of a call will be. It is made once: an error takes 1 µs."""


@dataclass(slots=True)
class _Message:
    """Calls that are sent together, and the place of each in the batch."""

    request: carrier_pb2.CarryRequest
    places: list[int]
    payload_bytes: int = 0
    timeout_seconds: float = 0.0


class Carrier:
    """A channel to one process; its breakers count how often the process gave no answer."""

    def __init__(
        self,
        *,
        name: str,
        target: str,
        service_token: str,
        breakers: Breakers,
        identity: TlsIdentity | None = None,
    ) -> None:
        self._name = name
        self._target = target
        self._breakers = breakers
        self._identity = identity
        self._version = 0 if identity is None else identity.version
        self.metadata = ((METADATA_TOKEN, service_token),)
        self.channel = _channel(target, identity)
        self._lines = Lines(self.channel, metadata=self.metadata)
        self._clock = PeerClock()

    async def renew(self, grace_seconds: float) -> None:
        """Connects anew if the certificate was renewed. Calls under way end on the old channel."""
        if self._identity is None or self._identity.version == self._version:
            return
        self._version = self._identity.version
        lines, channel = self._lines, self.channel
        self.channel = _channel(self._target, self._identity)
        self._lines = Lines(self.channel, metadata=self.metadata)
        lines.close()
        await channel.close(grace_seconds)

    async def carry(self, path: str, items: Sequence[Item[bytes]]) -> list[Carried | ServiceError]:
        """Sends calls to one method, in as few messages as their size allows. The outcomes keep their order.

        A call that cannot be sent, and a message that fails, raise nothing: they are outcomes.
        """
        outcomes: list[Carried | ServiceError] = [UNSENT] * len(items)
        messages = _pack(path, items, outcomes)
        if len(messages) == 1:
            await self._send(messages[0], outcomes)
        elif messages:
            await asyncio.gather(*(self._send(message, outcomes) for message in messages))
        return outcomes

    def failed(self, error: BaseException, *, path: str, timeout_seconds: float) -> ServiceError:
        """The refusal for the callers of a message that failed on this channel. The breakers count it.

        `path` is the method, or empty for what speaks of the whole process, such as a health check.
        `timeout_seconds` is how long the callers were ready to wait. A timeout below PATIENCE_SECONDS shows
        nothing about the upstream.
        """
        fault = fault_of(error, upstream=self._name)
        if fault.answered:
            self._breakers.succeeded(path)
        elif fault.error.reason is Reason.DEADLINE_EXCEEDED and timeout_seconds < PATIENCE_SECONDS:
            self._breakers.undecided(path)
        else:
            self._breakers.failed(path, whole_upstream=fault.whole_upstream)
        return fault.error

    async def close(self, grace_seconds: float | None) -> None:
        """Closes the channel when its calls have ended, or when the grace period is over."""
        self._lines.close()
        await self.channel.close(grace_seconds)

    async def _send(self, message: _Message, outcomes: list[Carried | ServiceError]) -> None:
        answers: Sequence[Carried | ServiceError]
        try:
            sent_at = time.monotonic()
            message.request.clock, message.request.sent_at = self._clock.reading(sent_at)
            payload = await self._lines.exchange(
                message.request.SerializeToString(), timeout_seconds=message.timeout_seconds
            )
            arrived_at = time.monotonic()
            response, answers = _read_answers(payload, asked=len(message.places))
            self._clock.note(
                response.clock,
                sent_at=sent_at,
                received_at=response.received_at,
                answered_at=response.answered_at,
                arrived_at=arrived_at,
            )
        except (Exception, asyncio.CancelledError) as error:
            if cancelled_by_caller(error):
                raise
            path = message.request.method
            refusal = self.failed(error, path=path, timeout_seconds=message.timeout_seconds)
            answers = [refusal] * len(message.places)
        else:
            self._breakers.succeeded(message.request.method)
        for place, answer in zip(message.places, answers, strict=True):
            outcomes[place] = answer


def _channel(target: str, identity: TlsIdentity | None) -> grpc.aio.Channel:
    """A channel that finds a silent process out, and finds a restarted one again."""
    options = [
        ("grpc.enable_retries", 0),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", ANSWER_MESSAGE_BYTES_MAX),
        # The refusal of a plain RPC or a stream travels in metadata.
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        # With these, gRPC reconnects to a restarted process within a second; its own default is two minutes.
        # The "minimum" backoff is the time limit of one attempt to connect.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
        # Without a time limit of its own, gRPC waits a minute for the answer to a ping.
        ("grpc.keepalive_time_ms", SILENCE_MS),
        ("grpc.http2.ping_timeout_ms", SILENCE_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if identity is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, identity.channel_credentials(), options=options)


def _read_answers(
    payload: bytes, *, asked: int
) -> tuple[carrier_pb2.CarryResponse, list[Carried | ServiceError]]:
    """A message's answer, and the outcomes in it.

    Raises:
        UnreadableAnswerError: the answer is cut short, or has fewer or more outcomes than calls were sent.
    """
    try:
        response = carrier_pb2.CarryResponse.FromString(payload)
        answers: list[Carried | ServiceError] = [
            from_status(outcome.error) if outcome.HasField("error") else (outcome.response, outcome.replayed)
            for outcome in response.outcomes
        ]
    except DecodeError as error:
        raise UnreadableAnswerError(str(error)) from error
    if len(answers) != asked:
        raise UnreadableAnswerError(f"{len(answers)} outcomes for {asked} calls")
    return response, answers


def _pack(path: str, items: Sequence[Item[bytes]], outcomes: list[Carried | ServiceError]) -> list[_Message]:
    """Puts calls into messages. A call that cannot be sent gets its outcome here, and the others are sent."""
    now = time.monotonic()
    messages: list[_Message] = []
    message: _Message | None = None
    for place, item in enumerate(items):
        context = item.context
        size = len(item.request)
        remaining = min(context.deadline - now, TIMEOUT_SECONDS_MAX)
        characters = (
            len(context.user_id)
            + len(context.idempotency_key)
            + len(context.request_id)
            + len(context.traceparent)
        )
        if remaining <= 0.0 or size > REQUEST_BYTES_MAX or characters > CONTEXT_CHARACTERS_MAX:
            outcomes[place] = _unsendable(size, remaining)
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
        except ValueError:  # half of a surrogate pair, which some parsers make from invalid UTF-8
            outcomes[place] = ServiceError(Reason.INVALID_ARGUMENT, "The key or a header is not valid text")
            continue
        message.places.append(place)
        message.payload_bytes += size
        message.timeout_seconds = max(message.timeout_seconds, remaining)
    return [message for message in messages if message.places]


def _unsendable(size: int, remaining_seconds: float) -> ServiceError:
    if remaining_seconds <= 0.0:
        return ServiceError(Reason.DEADLINE_EXCEEDED)
    if size > REQUEST_BYTES_MAX:
        return ServiceError(Reason.PAYLOAD_TOO_LARGE)
    return ServiceError(Reason.INVALID_ARGUMENT, "The key or a header is too long")
