"""What operations take and give: a list of requests in, a list of outcomes of equal length out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from chassis.call import Call
from chassis.errors import ServiceError

Req = TypeVar("Req")
Res = TypeVar("Res")


@dataclass(frozen=True, slots=True)
class Item(Generic[Req]):
    """One request of a batch, and who asked for it."""

    call: Call
    request: Req


@dataclass(frozen=True, slots=True)
class Reply(Generic[Res]):
    """An answer: the response message, or its serialized bytes as an earlier call stored them.

    `original` is the traceparent of the call that a replay repeats; empty when it was not sampled.
    """

    message: Res | bytes
    replayed: bool = False
    original: str = ""

    def payload(self) -> bytes:
        message: Any = self.message
        return message if isinstance(message, bytes) else message.SerializeToString()


Outcome = Reply[Res] | ServiceError

# What a servicer's method is: as many outcomes as items, in their order. It may return a ServiceError for an
# item; what it raises fails the whole batch.
BatchHandler = Callable[[list[Item[Any]]], Awaitable[Sequence[Reply[Message] | ServiceError]]]
