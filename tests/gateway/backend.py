"""Every service of the contract behind one real gRPC port; a test decides what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from chassis.batch import Item, Outcome, Reply
from chassis.rpc.methods import Method, methods_of
from chassis.rpc.server import Server
from chassis.rpc.servicing import Handler, keyed, streamed
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from protos.progress.v1 import progress_pb2
from protos.session.v1 import (
    attempts_pb2,
    presence_pb2,
    sessions_pb2,
    supervision_pb2,
    tests_pb2,
    uploads_pb2,
)
from protos.subscription.v1 import accounts_pb2, credits_pb2, holds_pb2, licenses_pb2

SERVICE_TOKEN = "a-secret-among-processes"

Answering = Callable[[Item[Any]], Outcome]

MODULES = (
    sessions_pb2,
    presence_pb2,
    tests_pb2,
    attempts_pb2,
    supervision_pb2,
    uploads_pb2,
    accounts_pb2,
    credits_pb2,
    holds_pb2,
    licenses_pb2,
    progress_pb2,
)
SERVICES = tuple(
    service.full_name for module in MODULES for service in module.DESCRIPTOR.services_by_name.values()
)


class Backend:
    """A server whose methods answer with an empty message, or with what `answers` has for them.

    `items` are the calls that arrived. While `gate` is closed nothing is answered; `arrived` is set when the
    first call waits there.
    """

    def __init__(self) -> None:
        self.items: list[Item[Any]] = []
        self.answers: dict[str, Answering] = {}
        self.gate = asyncio.Event()
        self.arrived = asyncio.Event()
        self.server: Server | None = None
        self.reset()

    def reset(self) -> None:
        self.items.clear()
        self.answers.clear()
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
            handlers=[self._handler(method) for service in SERVICES for method in methods_of(service)],
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
        self.items.extend(items)
        self.arrived.set()
        await self.gate.wait()
        answering = self.answers.get(method.name)
        empty: Callable[[], Message] = method.response_type
        return [Reply(empty()) if answering is None else answering(item) for item in items]

    def _handler(self, method: Method) -> Handler:
        """Every unary method is served as a keyed one, whose operation says itself what is a replay."""
        if method.server_streaming:
            return streamed(method.path, _request_of, _nothing, _unchanged)

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
