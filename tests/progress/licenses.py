"""Both sides of a license: subscription_service behind a port that can be closed, and replicas of ours."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from chassis.postgres import Connection, Database
from chassis.postgres.relay import Relay
from chassis.process.background import Background
from chassis.rpc.client import Upstream
from chassis.rpc.server import Server
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from progress_service.domain.license_orders import LICENSE_TOPIC
from progress_service.operations.license_following import LicenseFollowing
from progress_service.store.license_feed import LicenseFeedStore
from progress_service.subscription_client import SubscriptionClient
from protos.subscription.v1 import accounts_pb2, licenses_pb2
from tests.subscription.service import ACCOUNTS, LICENSES, Subscriptions

TOKEN = "a-secret-among-processes"
_keys = itertools.count(1)


class Licenses:
    """subscription_service on its own database; `open` and `close` make it appear and vanish."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._tracing = Tracing(service="test", version="0", sample_ratio=0.0)
        self._server: Server | None = None
        self.port = 0

    async def open(self) -> None:
        server = self._server = Server(
            bind=f"127.0.0.1:{self.port}",
            handlers=list(self._subscriptions.handlers.values()),
            service_token=TOKEN,
            tracing=self._tracing,
            metrics=Metrics(service="subscription_service"),
        )
        await server.start()
        self.port = server.port

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(grace_seconds=0)
            self._server = None

    async def accounts(self, *user_ids: str) -> None:
        await self._subscriptions.batch(
            ACCOUNTS,
            "PutAccount",
            [accounts_pb2.PutAccountRequest(user_id=u, email=f"{u}@example.com") for u in user_ids],
        )

    async def advance(self, user_id: str, specialization: str, to_level: int) -> None:
        request = licenses_pb2.AdvanceLicenseRequest(
            user_id=user_id, specialization=specialization, to_level=to_level, reason="an exam"
        )
        await self._subscriptions.one(
            LICENSES, "AdvanceLicense", request, user_id="grace", key=f"advance-{next(_keys)}"
        )

    async def level(self, user_id: str, specialization: str) -> int | None:
        level = await self._subscriptions.truth.fetchval(
            "SELECT level FROM licenses WHERE user_id = $1 AND specialization = $2", user_id, specialization
        )
        return None if level is None else int(level)

    async def history(self, user_id: str, specialization: str) -> list[tuple[int, int, int]]:
        """Each change of the license, in order: level before, level after, epoch."""
        rows = await self._subscriptions.truth.fetch(
            """
            SELECT from_level, to_level, epoch
              FROM license_changes
             WHERE user_id = $1 AND specialization = $2
             ORDER BY sequence
            """,
            user_id,
            specialization,
        )
        return [(row["from_level"], row["to_level"], row["epoch"]) for row in rows]

    async def changes(self) -> int:
        return int(await self._subscriptions.truth.fetchval("SELECT count(*) FROM license_changes"))

    async def last_sequence(self) -> int:
        return int(
            await self._subscriptions.truth.fetchval("SELECT coalesce(max(sequence), 0) FROM license_changes")
        )

    async def in_step(self, progress_truth: Connection) -> bool:
        """Whether every order has been delivered, and every change of a license has been followed."""
        position = await progress_truth.fetchval(
            "SELECT sequence FROM license_feed_position WHERE NOT EXISTS (SELECT 1 FROM outbox)"
        )
        return bool(position == await self.last_sequence())


@asynccontextmanager
async def following(database: Database, licenses: Licenses) -> AsyncIterator[Relay]:
    """A replica of progress_service at work: it delivers orders, and follows the licenses."""
    metrics = Metrics(service="progress_service")
    upstream = Upstream(
        name="subscription_service",
        target=f"127.0.0.1:{licenses.port}",
        service_token=TOKEN,
        tracing=Tracing(service="test", version="0", sample_ratio=0.0),
        metrics=metrics,
    )
    subscription = SubscriptionClient(upstream=upstream)
    relay = Relay(database, {LICENSE_TOPIC: subscription.deliver_orders}, in_order={LICENSE_TOPIC})
    background = Background(metrics=metrics)
    job = background.add("relay", partial(relay.deliver_due, LICENSE_TOPIC), interval_seconds=0.02)
    relay.at_wake(job.wake)
    background.add(
        "follow_licenses",
        LicenseFollowing(
            store=LicenseFeedStore(database),
            subscription=subscription,
            wake_relay=relay.wake,
            metrics=metrics,
        ).follow,
        interval_seconds=0.02,
        cancel_at_stop=True,
    )
    background.start()
    try:
        yield relay
    finally:
        await background.stop()
        await upstream.close()
