"""Batches: an operation takes a list of requests, and returns one outcome for each, in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from chassis.context import Claim, Context
from chassis.errors import ServiceError

T = TypeVar("T")
Req = TypeVar("Req")
Res = TypeVar("Res")


class Item(NamedTuple, Generic[Req]):
    """One request of a batch, and its context.

    `fingerprint` shows whether another request with the same key is the same request. It is empty when the
    method needs no key.
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
    """The latest deadline of a batch: a short deadline of one caller must not end the work for the others."""
    return max(item.context.deadline for item in items)


class Reply(NamedTuple, Generic[Res]):
    """An answer: a response message, or its serialized bytes.

    `original` is the traceparent of the call that a replay repeats; it is empty when that call was not
    sampled. `content` names the part that must still be appended to the response; it is empty when the
    response is complete.
    """

    message: Res | bytes
    replayed: bool = False
    original: str = ""
    content: str = ""

    def payload(self) -> bytes:
        """The serialized response. Maps are in the order of their keys, so a replay has the same bytes."""
        message: Any = self.message
        return message if isinstance(message, bytes) else message.SerializeToString(deterministic=True)


Outcome: TypeAlias = Reply[Any] | ServiceError
"""The result of one request, as its caller gets it."""
