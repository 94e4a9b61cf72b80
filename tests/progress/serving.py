"""The whole service behind real gRPC, on a database, and a client of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import Message

from chassis.context import Context
from chassis.postgres import Database
from chassis.rpc.client import Upstream
from chassis.rpc.paging import PageTokens
from chassis.rpc.server import Server
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from progress_service.__main__ import Wakes, handlers

TOKEN = "a-secret-among-processes"
SERVICES = "/homeroom.progress.v1"
NOBODY_WAITS = Wakes(relay=lambda: None, raising=lambda: None)


class Client:
    """Calls methods by their short names, as the gateway does for a user."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    async def ask(
        self, method: str, request: Message, user_id: str, *, role: str = "learner", key: str = ""
    ) -> Any:
        """The response to one call of `Service/Method`. Raises ServiceError."""
        path = f"{SERVICES}.{method}"
        context = Context(
            method=path,
            user_id=user_id,
            roles=frozenset({role}),
            idempotency_key=key,
            request_id="r1",
            deadline=time.monotonic() + 10,
            traceparent="",
        )
        return (await self.upstream.call(path, request, context)).message


@asynccontextmanager
async def served(database: Database, *, wakes: Wakes = NOBODY_WAITS) -> AsyncIterator[Client]:
    tracing = Tracing(service="test", version="0", sample_ratio=0.0)
    server = Server(
        bind="127.0.0.1:0",
        handlers=handlers(
            database=database,
            wakes=wakes,
            tokens=PageTokens(secret=TOKEN),
            metrics=Metrics(service="test"),
        ),
        service_token=TOKEN,
        tracing=tracing,
        metrics=Metrics(service="test"),
    )
    await server.start()
    upstream = Upstream(
        name="progress_service",
        target=f"127.0.0.1:{server.port}",
        service_token=TOKEN,
        tracing=tracing,
        metrics=Metrics(service="test"),
    )
    yield Client(upstream)
    await upstream.close()
    await server.stop(grace_seconds=0)
