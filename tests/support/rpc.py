"""A gRPC server that a test controls, and clients for it; as a program, a server in a process of its own."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from chassis.batch import Item, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.rpc.client import Upstream
from chassis.rpc.methods import methods_of
from chassis.rpc.server import Server
from chassis.rpc.servicing import Handler, keyed, plain, streamed
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from protos.subscription.v1 import credits_pb2, licenses_pb2

CREDITS = "homeroom.subscription.v1.CreditService"
LICENSES = "homeroom.subscription.v1.LicenseService"
ADJUST = f"/{CREDITS}/AdjustCredits"
LIST_MINE = f"/{CREDITS}/ListMyCreditEntries"
LIST = f"/{CREDITS}/ListCreditEntries"
WATCH = f"/{LICENSES}/WatchLicenses"
TOKEN = "a-secret-among-processes"


def unconverted(item):
    """A conversion that passes the request message on."""
    return item.request


def unrendered(message):
    return message


class Credits:
    """Operations that answer with what they were asked; the amount controls the outcome."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Item[credits_pb2.AdjustCreditsRequest]]] = []
        self.gate: asyncio.Event | None = None
        self.unavailable_times = 0
        self.retry_after_seconds = 0.001
        self.entry_characters = 0

    @property
    def amounts(self) -> list[int]:
        return [item.request.amount for batch in self.batches for item in batch]

    async def adjust_credits(self, items, render):
        self.batches.append(items)
        if self.gate is not None:
            await self.gate.wait()
        if self.unavailable_times:
            self.unavailable_times -= 1
            raise ServiceError(Reason.UNAVAILABLE, retry_after_seconds=self.retry_after_seconds)
        return [self.answer(item) for item in items]

    def answer(self, item):
        if item.request.amount == 13:
            return ServiceError(Reason.INSUFFICIENT_CREDITS, metadata={"balance": 5, "needed": 13})
        if item.request.amount == 500:
            raise RuntimeError("a bug")
        return Reply(credits_pb2.AdjustCreditsResponse(balance=item.request.amount))

    async def list_mine(self, items):
        token = "e" * self.entry_characters
        return [credits_pb2.ListMyCreditEntriesResponse(next_page_token=token) for _ in items]

    async def miscount(self, items):
        return []

    def handlers(self) -> list[Handler]:
        return [
            keyed(ADJUST, unconverted, self.adjust_credits, unrendered),
            plain(LIST_MINE, unconverted, self.list_mine, unrendered),
            plain(LIST, unconverted, self.miscount, unrendered),
        ]


def license_handlers(*, endless: bool = False) -> list[Handler]:
    """Three messages for each watcher; with `endless` the stream stays open after them."""

    async def watch(item) -> AsyncIterator[licenses_pb2.WatchLicensesResponse]:
        for sequence in range(1, 4):
            yield licenses_pb2.WatchLicensesResponse(sequence=item.request.after_sequence + sequence)
        if endless:
            await asyncio.Event().wait()

    async def unused(items):
        raise AssertionError

    return [
        streamed(method.path, unconverted, watch, unrendered)
        if method.server_streaming
        else plain(method.path, unconverted, unused, unrendered)
        for method in methods_of(LICENSES)
    ]


def tracing(trace_file: Path | None = None, *, ratio: float = 0.0) -> Tracing:
    return Tracing(service="test", version="0", sample_ratio=ratio, trace_file=trace_file)


@asynccontextmanager
async def serving(
    credits_: Credits | None = None, *, endless: bool = False, **options
) -> AsyncIterator[Server]:
    """A server that runs for the length of the block; `options` are the Server's own."""
    defaults = {
        "bind": "127.0.0.1:0",
        "handlers": [*(credits_ or Credits()).handlers(), *license_handlers(endless=endless)],
        "tracing": tracing(),
        "metrics": Metrics(service="test"),
        "in_flight_max": 100,
    }
    server = Server(service_token=TOKEN, **(defaults | options))
    await server.start()
    try:
        yield server
    finally:
        await server.stop(grace_seconds=0)


def upstream_to(port: int, *, token: str = TOKEN, **options) -> Upstream:
    # Two lanes of 48: the calls in flight stay below the server's in_flight_max.
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


async def reason_of(client: Upstream, amount: int = 1, **options) -> Reason | None:
    """Why a call failed; None when it was answered."""
    try:
        await client.call(ADJUST, adjust(amount), call(**options))
    except ServiceError as error:
        return error.reason
    return None


ROOT = Path(__file__).parents[2]


def port_to_come_back_to() -> int:
    """A free port that no outgoing connection takes while its server is away, as ephemeral ones may be."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return int(probe.getsockname()[1])


@asynccontextmanager
async def other_process(port: int = 0) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    """This server in a process of its own, and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.rpc",
        str(port),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield int(await asyncio.wait_for(process.stdout.readline(), 30)), process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _serve(port: int) -> None:
    """Serves until SIGTERM, or until the input ends; then stops as a service does."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    reading = loop.run_in_executor(None, sys.stdin.read)
    async with serving(bind=f"127.0.0.1:{port}", in_flight_max=4096) as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await asyncio.wait({reading, asyncio.ensure_future(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        await server.stop(grace_seconds=0.2)
    os._exit(0)  # the thread that reads the input may wait for ever


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
