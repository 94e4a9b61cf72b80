"""What the servicers share of a batch: its deadline, its keys, its answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.batch import Item, Reply
from chassis.context import Context
from chassis.errors import ServiceError
from chassis.postgres.idempotency import Claim, fingerprint
from subscription_service.store.keyed import Keyed

T = TypeVar("T")
M = TypeVar("M", bound=Message)


def deadline_of(batch: Sequence[Item[Any]]) -> float:
    """The latest deadline of the batch: nobody is cut short by a neighbour who has less time."""
    return max(item.call.deadline for item in batch)


def replies(outcomes: Sequence[T | ServiceError], render: Callable[[T], M]) -> list[Reply[M] | ServiceError]:
    return [outcome if isinstance(outcome, ServiceError) else Reply(render(outcome)) for outcome in outcomes]


def keyed(item: Item[Any], order: T) -> Keyed[T]:
    """An order under the key of the call that asked for it."""
    call = item.call
    return Keyed(
        claim=Claim(call.user_id, call.method, call.idempotency_key),
        fingerprint=fingerprint(call.method, item.request),
        traceparent=call.traceparent,
        order=order,
    )


def timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def operation_id(call: Context) -> uuid.UUID:
    """One id for everything that is asked for under one key of one caller."""
    return uuid.uuid5(_OPERATIONS, f"{call.user_id}\n{call.method}\n{call.idempotency_key}")


_OPERATIONS = uuid.UUID("6f1f2c0e-52f4-4b8e-9a5e-3c9c1f0a7b11")
