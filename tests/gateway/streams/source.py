"""A service whose streams say what a test wants, when it wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from chassis.batch import Item
from protos.chassis.v1 import options_pb2
from tests.gateway.made_contracts import Rpc, methods

METHODS = methods(
    Rpc(
        "Watch",
        [{"get": "/v1/watch"}],
        safe=True,
        server_streaming=True,
        event_id="at",
        resumes_from="a_string",
    ),
    Rpc("WatchNamed", [{"get": "/v1/watch-named"}], safe=True, server_streaming=True, event_of="told"),
    Rpc("Run", [{"post": "/v1/run", "body": "*"}], server_streaming=True, roles=[options_pb2.ROLE_ADMIN]),
)
TOLD: Any = METHODS[0].response_type


class Source:
    """A stream of the service: it yields what the test puts in, and knows when it was cancelled."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled = asyncio.Event()
        self.taken = 0

    def tell(self, *values: Any) -> None:
        for value in values:
            self.queue.put_nowait(value)

    async def __call__(self, _item: Item[Any]) -> AsyncIterator[Any]:
        try:
            while (value := await self.queue.get()) is not None:
                if isinstance(value, Exception):
                    raise value
                self.taken += 1
                yield value
        finally:
            self.cancelled.set()


def counting(number: int) -> Callable[[Item[Any]], AsyncIterator[Any]]:
    async def follow(item: Item[Any]) -> AsyncIterator[Any]:
        begin = int(item.request.a_string or "0")
        for each in range(begin + 1, begin + number + 1):
            yield TOLD(at=str(each), number=each)

    return follow


async def stays_open(_item: Item[Any]) -> AsyncIterator[Any]:
    yield TOLD(at="a")
    await asyncio.Event().wait()
