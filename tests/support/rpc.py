"""A gRPC server that a test steers, and clients to it; as a program, a process of its own to stop."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chassis.batch import Item, Reply
from chassis.context import Context
from chassis.rpc.client import Upstream
from chassis.errors import Reason, ServiceError
from chassis.telemetry.metrics import Metrics
from chassis.rpc.server import Server
from chassis.telemetry.tracing import Tracing
from protos.subscription.v1 import credits_pb2, licenses_pb2

CREDITS = "homeroom.subscription.v1.CreditService"
LICENSES = "homeroom.subscription.v1.LicenseService"
ADJUST = f"/{CREDITS}/AdjustCredits"
LIST_MINE = f"/{CREDITS}/ListMyCreditEntries"
LIST = f"/{CREDITS}/ListCreditEntries"
WATCH = f"/{LICENSES}/WatchLicenses"
TOKEN = "a-secret-among-processes"


class CreditServicer:
    """Answers with what it was asked; the amount steers it."""

    def __init__(self) -> None:
        self.batches: list[list[Item[credits_pb2.AdjustCreditsRequest]]] = []
        self.gate: asyncio.Event | None = None
        self.unavailable_times = 0
        self.retry_after_seconds = 0.001
        self.entry_characters = 0

    @property
    def amounts(self) -> list[int]:
        return [item.request.amount for batch in self.batches for item in batch]

    async def AdjustCredits(self, batch):
        self.batches.append(batch)
        if self.gate is not None:
            await self.gate.wait()
        if self.unavailable_times:
            self.unavailable_times -= 1
            raise ServiceError(Reason.UNAVAILABLE, retry_after_seconds=self.retry_after_seconds)
        return [self.answer(item) for item in batch]

    def answer(self, item):
        if item.request.amount == 13:
            return ServiceError(Reason.INSUFFICIENT_CREDITS, metadata={"balance": 5, "needed": 13})
        if item.request.amount == 500:
            raise RuntimeError("a bug")
        return Reply(credits_pb2.AdjustCreditsResponse(balance=item.request.amount))

    async def ListMyCreditEntries(self, batch):
        token = "e" * self.entry_characters
        return [Reply(credits_pb2.ListMyCreditEntriesResponse(next_page_token=token)) for _ in batch]

    async def ListCreditEntries(self, batch):
        return []


class LicenseServicer:
    """Three messages for each watcher; after `endless` is set, the watchers stay for more."""

    def __init__(self, *, endless: bool = False) -> None:
        self.endless = endless

    async def WatchLicenses(self, item) -> AsyncIterator[licenses_pb2.WatchLicensesResponse]:
        for sequence in range(1, 4):
            yield licenses_pb2.WatchLicensesResponse(sequence=item.request.after_sequence + sequence)
        if self.endless:
            await asyncio.Event().wait()

    async def unused(self, batch):
        raise AssertionError

    ListMyLicenses = ListLicenses = GetLicenseHistory = AdvanceLicense = unused
    ApplyLicenseLevel = ResetLicense = unused


def tracing(trace_file: Path | None = None, *, ratio: float = 0.0) -> Tracing:
    return Tracing(service="test", version="0", sample_ratio=ratio, trace_file=trace_file)


@asynccontextmanager
async def serving(
    servicer: CreditServicer | None = None, *, endless: bool = False, **options
) -> AsyncIterator[Server]:
    """A server that runs for the length of the block; `options` are the Server's own."""
    defaults = {
        "bind": "127.0.0.1:0",
        "tracing": tracing(),
        "metrics": Metrics(service="test"),
        "in_flight_max": 100,
    }
    server = Server(
        servicers={CREDITS: servicer or CreditServicer(), LICENSES: LicenseServicer(endless=endless)},
        service_token=TOKEN,
        **(defaults | options),
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop(grace_seconds=0)


def upstream_to(port: int, *, token: str = TOKEN, **options) -> Upstream:
    # Two lanes of 48: what is under way at once stays below the server's in_flight_max.
    defaults = {"tracing": tracing(), "metrics": Metrics(service="test"), "batch_max": 48}
    return Upstream(name="credits", target=f"127.0.0.1:{port}", service_token=token, **(defaults | options))


@asynccontextmanager
async def calling(port: int, **options) -> AsyncIterator[Upstream]:
    client = upstream_to(port, **options)
    try:
        yield client
    finally:
        await client.close()


def call(
    *,
    seconds: float = 10.0,
    key: str = "k",
    roles: tuple[str, ...] = ("admin",),
    request_id: str = "r1",
    traceparent: str = "",
) -> Context:
    return Context(
        method=ADJUST,
        user_id="ada",
        roles=frozenset(roles),
        idempotency_key=key,
        request_id=request_id,
        deadline=time.monotonic() + seconds,
        traceparent=traceparent,
    )


def adjust(amount: int, reason: str = "why") -> credits_pb2.AdjustCreditsRequest:
    return credits_pb2.AdjustCreditsRequest(user_id="bob", amount=amount, reason=reason)


async def _serve_until_the_input_ends() -> None:
    async with serving() as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve_until_the_input_ends())
