"""How a batch is converted: what one item has wrong is that item's outcome, and the rest goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from chassis.batch import Item, Reply
from chassis.errors import ServiceError
from chassis.postgres.idempotency import fingerprint
from session_service.operations.calls import KeyedCall

Outcome = Reply[Any] | ServiceError
M = TypeVar("M", bound=Message)
R = TypeVar("R")
V = TypeVar("V")


async def keyed(
    batch: Sequence[Item[M]],
    convert: Callable[[M], R],
    operation: Callable[[Sequence[KeyedCall[R]]], Awaitable[Sequence[Outcome]]],
) -> list[Outcome]:
    """Run a keyed operation, which answers with serialized responses."""

    def call(item: Item[M]) -> KeyedCall[R]:
        return KeyedCall(item.call, fingerprint(item.call.method, item.request), convert(item.request))

    return await _run(batch, call, operation)


async def plain(
    batch: Sequence[Item[M]],
    convert: Callable[[M], R],
    operation: Callable[[Sequence[Item[R]]], Awaitable[Sequence[V | ServiceError]]],
    render: Callable[[V], Message],
) -> list[Outcome]:
    """Run an operation without keys, and render what it returns."""

    def item_of(item: Item[M]) -> Item[R]:
        return Item(item.call, convert(item.request))

    async def run(items: Sequence[Item[R]]) -> list[Outcome]:
        return [
            value if isinstance(value, ServiceError) else Reply(render(value))
            for value in await operation(items)
        ]

    return await _run(batch, item_of, run)


async def _run(
    batch: Sequence[Item[M]],
    convert: Callable[[Item[M]], R],
    operation: Callable[[Sequence[R]], Awaitable[Sequence[Outcome]]],
) -> list[Outcome]:
    outcomes: list[Outcome | None] = []
    converted: list[R] = []
    for item in batch:
        try:
            converted.append(convert(item))
            outcomes.append(None)
        except ServiceError as refusal:
            outcomes.append(refusal)
    answers = iter(await operation(converted) if converted else ())
    return [next(answers) if outcome is None else outcome for outcome in outcomes]
