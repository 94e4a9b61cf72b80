"""What operations take and give: a list of requests in, a list of outcomes of equal length out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from chassis.context import Claim, Context
from chassis.errors import ServiceError

T = TypeVar("T")
Req = TypeVar("Req")
Res = TypeVar("Res")


@dataclass(frozen=True, slots=True)
class Item(Generic[Req]):
    """One request of a batch, and its context.

    `fingerprint` tells the request from another one under the same key; empty when its method needs no key.
    """

    context: Context
    request: Req
    fingerprint: bytes = b""

    @property
    def user_id(self) -> str:
        """The authenticated caller."""
        return self.context.user_id

    @property
    def deadline(self) -> float:
        return self.context.deadline

    @property
    def claim(self) -> Claim:
        return self.context.claim

    def asking(self, request: T) -> Item[T]:
        """The same item in another form, such as the domain object that a message was converted to."""
        return Item(self.context, request, self.fingerprint)


def latest_deadline(items: Iterable[Item[Any]]) -> float:
    """The latest deadline of a batch: a caller in a hurry must not cut its neighbours short."""
    return max(item.context.deadline for item in items)


@dataclass(frozen=True, slots=True)
class Reply(Generic[Res]):
    """An answer: a response message, or its serialized bytes.

    `original` is the traceparent of the call that a replay repeats; empty when it was not sampled. `content`
    names what is still to be appended to the response; empty when it is complete.
    """

    message: Res | bytes
    replayed: bool = False
    original: str = ""
    content: str = ""

    def payload(self) -> bytes:
        """The serialized response; maps in the order of their keys, so that a replay has the same bytes."""
        message: Any = self.message
        return message if isinstance(message, bytes) else message.SerializeToString(deterministic=True)


Outcome: TypeAlias = Reply[Any] | ServiceError
"""What became of one request, as its caller hears it."""
