"""Every service of the contract behind one real gRPC port; it answers what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from chassis.batch import Item, Reply
from chassis.errors import ServiceError
from chassis.rpc.methods import Method, methods_of
from chassis.telemetry.metrics import Metrics
from chassis.rpc.server import Server
from chassis.telemetry.tracing import Tracing
from protos.progress.v1 import progress_pb2
from protos.session.v1 import sessions_pb2, tests_pb2
from protos.subscription.v1 import accounts_pb2, credits_pb2, licenses_pb2

SERVICE_TOKEN = "a-secret-among-processes"

Outcome = Reply[Any] | ServiceError
Answering = Callable[[Item[Any]], Outcome]

MODULES = (sessions_pb2, tests_pb2, accounts_pb2, credits_pb2, licenses_pb2, progress_pb2)
SERVICES = tuple(
    service.full_name for module in MODULES for service in module.DESCRIPTOR.services_by_name.values()
)


class Backend:
    """A server whose methods give an empty message unless `answers` knows better.

    `items` are the calls that arrived. While `gate` is closed nothing is answered; `arrived` tells that
    something waits at it.
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
            servicers={service: _Servicer(self, service) for service in SERVICES},
            service_token=SERVICE_TOKEN,
            tracing=Tracing(service="backend", version="0", sample_ratio=0.0),
            metrics=Metrics(service="backend"),
        )
        await self.server.start()

    async def stop(self) -> None:
        self.gate.set()
        if self.server is not None:
            await self.server.stop(grace_seconds=0)

    async def answer(self, method: Method, batch: Sequence[Item[Any]]) -> list[Outcome]:
        self.items.extend(batch)
        self.arrived.set()
        await self.gate.wait()
        answering = self.answers.get(method.name)
        made: Callable[[], Message] = method.response_type
        return [Reply(made()) if answering is None else answering(item) for item in batch]


class _Servicer:
    def __init__(self, backend: Backend, service: str) -> None:
        for method in methods_of(service):
            setattr(self, method.name, self._handler(backend, method))

    @staticmethod
    def _handler(
        backend: Backend, method: Method
    ) -> Callable[[Sequence[Item[Message]]], Awaitable[list[Outcome]]]:
        async def handle(batch: Sequence[Item[Message]]) -> list[Outcome]:
            return await backend.answer(method, batch)

        return handle
