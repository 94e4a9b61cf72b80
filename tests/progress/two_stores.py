"""Progress and licenses side by side: both services on databases of their own, with gRPC between them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from chassis.batch import Item
from chassis.context import Context
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.relay import Relay
from chassis.rpc.client import Upstream
from chassis.rpc.paging import PageTokens
from chassis.rpc.server import Server
from chassis.rpc.servicing import UnaryHandler
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.__main__ import assemble_sync
from progress_service.domain.license_orders import LICENSE_TOPIC
from progress_service.operations import sync_orders
from progress_service.operations.sync_runs import SyncRuns
from progress_service.subscription_client import SubscriptionClient
from protos.progress.v1 import sync_pb2 as pb
from tests.progress.conftest import Progress, progress_over
from tests.subscription.service import Subscriptions

TOKEN = "a-secret-among-processes"
SYNC = "homeroom.progress.v1.SyncService"
AGE_SECONDS_MIN = 5.0
LEVELS_MAX = 100


def tracing() -> Tracing:
    return Tracing(service="test", version="0", sample_ratio=0.0)


@dataclass
class Replica:
    """One process of progress_service, without its own gRPC."""

    database: Database
    runs: SyncRuns
    relay: Relay
    handlers: dict[str, UnaryHandler]

    async def work_until_idle(self) -> int:
        """The steps that it took, those that failed included."""
        steps = 0
        while await self.runs.work() is not None:
            steps += 1
        return steps

    async def batch(
        self, method: str, requests: Sequence[Any], *, keys: Sequence[str] = (), seconds: float = 10.0
    ) -> list[Any]:
        """The outcome of each request: a response message or a ServiceError."""
        path = f"/{SYNC}/{method}"
        handler = self.handlers[path]
        items = [
            Item(
                Context(
                    method=path,
                    user_id="root",
                    roles=frozenset({"admin"}),
                    idempotency_key=key,
                    request_id="",
                    deadline=time.monotonic() + seconds,
                    traceparent="",
                ),
                request,
            )
            for request, key in zip(requests, keys or [""] * len(requests), strict=True)
        ]
        return [
            outcome
            if isinstance(outcome, ServiceError)
            else handler.method.response_type.FromString(outcome.payload())
            for outcome in await handler.answer(items)
        ]

    async def one(self, method: str, request: Any, *, key: str = "", seconds: float = 10.0) -> Any:
        (outcome,) = await self.batch(method, [request], keys=[key], seconds=seconds)
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    async def all_pages(self, method: str, request: Any, rows: str) -> list[Any]:
        """The rows of all pages of a list."""
        found: list[Any] = []
        while True:
            response = await self.one(method, request)
            found += getattr(response, rows)
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    async def begin(self, direction: Any = pb.BOTH_WAYS, *, dry_run: bool = False, key: str = "") -> str:
        """Order a run and return its id; nobody works on it yet."""
        request = pb.SyncAllRequest(direction=direction, dry_run=dry_run)
        return (await self.one("SyncAll", request, key=key or f"run-{time.monotonic()}")).run.run_id

    async def run(self, direction: Any = pb.BOTH_WAYS, *, dry_run: bool = False) -> Any:
        """A run that is at its end."""
        run_id = await self.begin(direction, dry_run=dry_run)
        await self.work_until_idle()
        return await self.run_of(run_id)

    async def run_of(self, run_id: str) -> Any:
        return (await self.one("GetSyncRun", pb.GetSyncRunRequest(run_id=run_id))).run

    async def changes_of(self, run_id: str) -> list[Any]:
        request = pb.ListSyncChangesRequest(run_id=run_id, page_size=500)
        return await self.all_pages("ListSyncChanges", request, "changes")

    async def desyncs(self, **fields: Any) -> list[Any]:
        return await self.all_pages("ListDesyncs", pb.ListDesyncsRequest(**fields), "desyncs")


@dataclass
class TwoStores:
    """Both services; `progress` and `licenses` are connections for planting rows and looking at them."""

    progress: Connection
    licenses: Connection
    subscriptions: Subscriptions
    service: Progress
    server: Server
    first: Replica
    progress_database: ServiceDatabase
    stack: AsyncExitStack = field(repr=False)

    async def serve_licenses(self) -> None:
        """Serve subscription_service on a new port."""
        self.server = Server(
            bind="127.0.0.1:0",
            handlers=list(self.subscriptions.handlers.values()),
            service_token=TOKEN,
            tracing=tracing(),
            metrics=Metrics(service="subscription_service"),
        )
        await self.server.start()
        self.stack.push_async_callback(self.server.stop, grace_seconds=0)

    async def another_replica(self) -> Replica:
        database = await Database.connect(self.progress_database.service, maximum=8)
        self.stack.push_async_callback(database.close)
        return await self._replica(database)

    async def _replica(self, database: Database) -> Replica:
        metrics = Metrics(service="progress_service")
        upstream = Upstream(
            name="subscription_service",
            target=f"127.0.0.1:{self.server.port}",
            service_token=TOKEN,
            tracing=tracing(),
            metrics=metrics,
        )
        self.stack.push_async_callback(upstream.close)
        subscription = SubscriptionClient(upstream=upstream)
        relay = Relay(database, {LICENSE_TOPIC: subscription.deliver_orders})
        parts = assemble_sync(
            database=database,
            subscription=subscription,
            wake_relay=lambda: None,
            metrics=metrics,
            tokens=PageTokens(secret=TOKEN),
            interval=timedelta(hours=6),
            retention=timedelta(days=30),
            age_seconds_min=AGE_SECONDS_MIN,
        )
        handlers = {
            handler.method.path: handler for handler in parts.handlers if isinstance(handler, UnaryHandler)
        }
        return Replica(database, parts.runs, relay, handlers)

    async def end_pauses(self) -> None:
        """Let runs go on at once whose last step has failed, or whose replica was killed."""
        await self.progress.execute("UPDATE sync_runs SET leased_until = now() - interval '1 s'")

    async def deliver(self) -> None:
        """Deliver the outbox until it is empty."""
        while await self.progress.fetchval("SELECT count(*) FROM outbox WHERE parked_at IS NULL"):
            await self.first.relay.deliver_due(LICENSE_TOPIC)

    async def add_accounts(self, user_ids: Iterable[str]) -> None:
        await self.licenses.execute(
            """
            INSERT INTO accounts
                   (user_id, email, display_name, email_verified, status, created_at, updated_at)
            SELECT user_id, user_id || '@example.com', '', true, 'active', now(), now()
              FROM unnest($1::text[]) AS learner (user_id)
                ON CONFLICT DO NOTHING
            """,
            list(user_ids),
        )

    async def plant_progress(
        self, rows: Iterable[tuple[str, str, int]], *, epoch: int = 0, age_seconds: float = 3600.0
    ) -> None:
        """Learner, specialization and level of each, as if nobody had told of them."""
        rows = list(rows)
        await self.progress.execute(
            "INSERT INTO learner_statistics (user_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
            [row[0] for row in rows],
        )
        await self.progress.execute(
            f"""
            INSERT INTO specialization_progress (user_id, specialization, xp, level, max_level, granted_level,
                   epoch, catalog_version, version, updated_at)
            SELECT user_id, specialization, 0, level, {LEVELS_MAX}, 0, $4, 0, 1,
                   clock_timestamp() - $5 * interval '1 s'
              FROM unnest($1::text[], $2::text[], $3::integer[]) AS planted (user_id, specialization, level)
            """,  # noqa: S608 - a constant
            *map(list, zip(*rows, strict=True)),
            epoch,
            age_seconds,
        )

    async def plant_licenses(
        self, rows: Iterable[tuple[str, str, int]], *, epoch: int = 0, age_seconds: float = 3600.0
    ) -> None:
        """Learner, specialization and level of each; the accounts must exist."""
        await self.licenses.execute(
            f"""
            INSERT INTO licenses (user_id, specialization, level, max_level, epoch, updated_at)
            SELECT user_id, specialization, level, {LEVELS_MAX}, $4, clock_timestamp() - $5 * interval '1 s'
              FROM unnest($1::text[], $2::text[], $3::integer[]) AS planted (user_id, specialization, level)
            """,  # noqa: S608 - a constant
            *map(list, zip(*rows, strict=True)),
            epoch,
            age_seconds,
        )

    async def progress_levels(self) -> dict[tuple[str, str], int]:
        rows = await self.progress.fetch(
            "SELECT user_id, specialization, level FROM specialization_progress WHERE level > 0"
        )
        return {(row[0], row[1]): row[2] for row in rows}

    async def license_levels(self) -> dict[tuple[str, str], int]:
        rows = await self.licenses.fetch("SELECT user_id, specialization, level FROM licenses")
        return {(row[0], row[1]): row[2] for row in rows}

    async def license_changes(self) -> list[tuple[str, int, int, str]]:
        rows = await self.licenses.fetch(
            "SELECT user_id, from_level, to_level, changed_by FROM license_changes ORDER BY user_id, sequence"
        )
        return [tuple(row) for row in rows]


@asynccontextmanager
async def two_stores(
    progress_database: ServiceDatabase, subscription_database: ServiceDatabase
) -> AsyncIterator[TwoStores]:
    """Both services, for the length of the block."""
    async with AsyncExitStack() as stack:
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.setattr(sync_orders, "WAIT_SECONDS_MAX", 0.05)  # most tests work on their runs themselves
        theirs = await Database.connect(subscription_database.service, maximum=8)
        stack.push_async_callback(theirs.close)
        ours = await Database.connect(progress_database.service, maximum=8)
        stack.push_async_callback(ours.close)
        progress = await asyncpg.connect(progress_database.superuser)
        stack.push_async_callback(progress.close)
        licenses = await asyncpg.connect(subscription_database.superuser)
        stack.push_async_callback(licenses.close)
        subscriptions = Subscriptions(theirs, licenses)
        stores = TwoStores(
            progress=progress,
            licenses=licenses,
            subscriptions=subscriptions,
            service=progress_over(ours, progress),
            server=None,
            first=None,
            progress_database=progress_database,
            stack=stack,
        )
        await stores.serve_licenses()
        stores.first = await stores._replica(ours)
        yield stores


def told(changes: Iterable[Any]) -> list[tuple[str, str, tuple[int, int], tuple[int, int]]]:
    """Learner, outcome, and the levels of progress and license before and after; 0 is none."""
    return [
        (
            change.user_id,
            pb.SyncChange.Outcome.Name(change.outcome),
            (change.before.progress_level, change.before.license_level),
            (change.after.progress_level, change.after.license_level),
        )
        for change in changes
    ]
