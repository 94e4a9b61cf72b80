"""Every service of the contract behind one real gRPC port; a test decides what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from chassis.batch import Item, Outcome, Reply
from chassis.context import SERVICE_ROLES
from chassis.rpc.methods import Method, methods_of
from chassis.rpc.server import Server
from chassis.rpc.servicing import Handler, keyed, streamed
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from gateway.contract import service_names

SERVICE_TOKEN = "a-secret-among-processes"

Answering = Callable[[Item[Any]], Outcome]

SERVICES = tuple(service_names())


class Backend:
    """A server whose methods answer with an empty message, or with what `answers` or `streams` has for them.

    `items` are the calls of users that arrived; what the gateway asks for itself is not among them. While
    `gate` is closed nothing is answered; `arrived` is set when the first call waits there.
    """

    def __init__(self, more_services: Sequence[str] = ()) -> None:
        self._services = (*SERVICES, *more_services)
        self.streams: dict[str, Callable[[Item[Any]], AsyncIterator[Any]]] = {}
        self.items: list[Item[Any]] = []
        self.answers: dict[str, Answering] = {}
        self.gate = asyncio.Event()
        self.arrived = asyncio.Event()
        self.server: Server | None = None
        self.reset()

    def reset(self) -> None:
        self.items.clear()
        self.answers.clear()
        self.streams.clear()
        self.gate.set()
        self.arrived.clear()

    @property
    def only_item(self) -> Item[Any]:
        (item,) = self.items
        return item

    @property
    def port(self) -> int:
        assert self.server is not None
        return self.server.port

    async def start(self, *, port: int = 0) -> None:
        self.server = Server(
            bind=f"127.0.0.1:{port}",
            handlers=[self._handler(method) for service in self._services for method in methods_of(service)],
            service_token=SERVICE_TOKEN,
            tracing=Tracing(service="backend", version="0", sample_ratio=0.0),
            metrics=Metrics(service="backend"),
        )
        await self.server.start()

    async def stop(self) -> None:
        self.gate.set()
        if self.server is not None:
            await self.server.stop(grace_seconds=0)

    async def answer(self, method: Method, items: Sequence[Item[Any]]) -> list[Outcome]:
        self.items.extend(item for item in items if item.context.roles != SERVICE_ROLES)
        self.arrived.set()
        await self.gate.wait()
        answering = self.answers.get(method.name)
        empty: Callable[[], Message] = method.response_type
        return [Reply(empty()) if answering is None else answering(item) for item in items]

    def _handler(self, method: Method) -> Handler:
        """Every unary method is served as a keyed one, whose operation says itself what is a replay."""
        if method.server_streaming:

            def follow(item: Item[Any]) -> AsyncIterator[Any]:
                self.items.append(item)
                return self.streams.get(method.name, _nothing)(item)

            return streamed(method.path, lambda item: item.request, follow, _unchanged)

        async def operation(items: Sequence[Item[Any]], _render: Any) -> list[Outcome]:
            return await self.answer(method, items)

        return keyed(method.path, _request_of, operation, _unchanged)


def _request_of(item: Item[Any]) -> Any:
    return item.request


def _unchanged(message: Any) -> Message:
    made: Message = message
    return made


async def _nothing(_item: Item[Any]) -> AsyncIterator[Any]:
    return
    yield
