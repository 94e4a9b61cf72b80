"""Deliveries: many calls to one method of an upstream, whose answers say nothing but that they arrived."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from chassis.batch import Reply
from chassis.context import Context, service_context
from chassis.errors import ServiceError
from chassis.postgres.outbox import OutboxEvent
from chassis.rpc.client import Upstream

DELIVERY_SECONDS_MAX = 5.0


async def deliver(
    upstream: Upstream,
    path: str,
    events: Sequence[OutboxEvent],
    *,
    timeout_seconds: float = DELIVERY_SECONDS_MAX,
) -> list[ServiceError | None]:
    """Send each event, whose payload is the request; None for each that was answered."""
    contexts = [
        service_context(path, timeout_seconds=timeout_seconds, traceparent=event.traceparent)
        for event in events
    ]
    payloads = [event.payload for event in events]
    return await refusals_of(upstream, path, list(zip(payloads, contexts, strict=True)))


async def refusals_of(
    upstream: Upstream, path: str, requests: Sequence[tuple[Message | bytes, Context]]
) -> list[ServiceError | None]:
    """Send these requests; None for each that was answered."""
    outcomes = await upstream.call_many(path, requests)
    return [None if isinstance(outcome, Reply) else outcome for outcome in outcomes]
