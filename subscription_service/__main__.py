"""`python -m subscription_service [run|migrate]`: the only place where the parts of the service meet."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import chassis.migrations
from chassis import failpoints, logs
from chassis.config import load
from chassis.health import Health, OpsServer
from chassis.metrics import Metrics
from chassis.postgres import Database
from chassis.process import Shutdown, run, tune_garbage_collection
from chassis.server import Server
from chassis.tracing import Tracing
from chassis.version import version
from subscription_service.config import Config, MigrationConfig
from subscription_service.operations.accounts import AccountOperations
from subscription_service.operations.credits import CreditOperations
from subscription_service.operations.entitlements import EntitlementOperations
from subscription_service.operations.holds import HoldOperations
from subscription_service.operations.housekeeping import keep_house
from subscription_service.operations.license_feed import LicenseFeed
from subscription_service.operations.licenses import LicenseOperations
from subscription_service.operations.plans import PlanOperations
from subscription_service.operations.subscriptions import SubscriptionOperations
from subscription_service.servicer.accounts import AccountServicer, PlanServicer
from subscription_service.servicer.credits import CreditServicer
from subscription_service.servicer.holds import HoldServicer
from subscription_service.servicer.licenses import LicenseServicer
from subscription_service.store.accounts import AccountStore
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.credits import CreditStore
from subscription_service.store.entitlements import EntitlementStore
from subscription_service.store.holds import HoldStore
from subscription_service.store.housekeeping import HousekeepingStore
from subscription_service.store.license_notifications import listen_for_changes
from subscription_service.store.license_reads import LicenseReader, raise_feed_origin
from subscription_service.store.licenses import LicenseStore
from subscription_service.store.plans import PlanStore
from subscription_service.store.subscriptions import SubscriptionStore

SERVICE = "subscription_service"
START_SECONDS_MAXIMUM = 10.0
MIGRATIONS = {"chassis": chassis.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


async def serve(shutdown: Shutdown) -> None:
    """Serve until the end is asked for; refuses a database whose schema is not the one known here."""
    config = load(Config, os.environ)
    token = config.service_token.reveal() if config.service_token else ""
    logs.configure(service=SERVICE, version=version(), level=config.log_level, hash_secret=token)
    failpoints.configure(config.failpoints_dir, config.mode)
    metrics = Metrics(service=SERVICE, version=version())
    tracing = Tracing(
        service=SERVICE,
        version=version(),
        sample_ratio=config.trace_sample_ratio,
        trace_file=config.trace_file,
        otlp_endpoint=config.otlp_endpoint,
    )
    shutdown.closing("tracing", tracing.close)
    database = await Database.connect(
        config.database_url.reveal(),
        maximum=config.database_connections_maximum,
        application_name=SERVICE,
    )
    shutdown.closing("database", database.close)
    await chassis.migrations.check(database, MIGRATIONS)
    metrics.gauge("database_waiting", "Calls that wait for a connection", lambda: database.pool_waiting)
    await raise_feed_origin(database, deadline=time.monotonic() + START_SECONDS_MAXIMUM)

    feed = LicenseFeed(reader=LicenseReader(database=database), poll_seconds=config.license_poll_seconds)
    shutdown.at_request(feed.close)
    server = Server(
        bind=config.bind,
        servicers=servicers(database, feed),
        service_token=token,
        tracing=tracing,
        metrics=metrics,
    )
    health = Health()
    health.add("database", database.ping)
    shutdown.at_request(health.drain)
    ops = OpsServer(bind=config.ops_bind, service=SERVICE, version=version(), health=health, metrics=metrics)

    await ops.start()
    shutdown.closing("operations pages", ops.stop)
    await server.start()
    shutdown.closing("server", server.stop, timeout_seconds=10.0)
    run_until_closed(shutdown, "listening", listen_for_changes(config.database_url.reveal(), feed.hasten))
    run_until_closed(
        shutdown,
        "housekeeping",
        keep_house(HousekeepingStore(database=database), key_age=timedelta(days=config.idempotency_days)),
    )
    tune_garbage_collection()
    logs.get_logger(__name__).info("serving", port=server.port, ops_port=ops.port)
    await shutdown.wait()


def run_until_closed(shutdown: Shutdown, name: str, work: Coroutine[Any, Any, None]) -> None:
    """Run something in the background; it is cancelled when the process ends."""
    task = asyncio.create_task(work, name=name)

    async def close() -> None:
        task.cancel()
        await asyncio.wait({task})

    shutdown.closing(name, close)


def servicers(
    database: Database, feed: LicenseFeed, *, pinned_time: PinnedTime = database_time
) -> Mapping[str, object]:
    """The services of this process, by their full names, on one database."""
    accounts = AccountStore(database=database, pinned_time=pinned_time)
    entitlements = EntitlementStore(database=database, pinned_time=pinned_time)
    return {
        "homeroom.subscription.v1.AccountService": AccountServicer(
            accounts=AccountOperations(store=accounts),
            subscriptions=SubscriptionOperations(
                store=SubscriptionStore(database=database, pinned_time=pinned_time)
            ),
            entitlements=EntitlementOperations(store=entitlements),
        ),
        "homeroom.subscription.v1.PlanService": PlanServicer(
            operations=PlanOperations(store=PlanStore(database=database))
        ),
        "homeroom.subscription.v1.HoldService": HoldServicer(
            operations=HoldOperations(store=HoldStore(database=database, pinned_time=pinned_time))
        ),
        "homeroom.subscription.v1.CreditService": CreditServicer(
            operations=CreditOperations(
                store=CreditStore(database=database, pinned_time=pinned_time),
                entitlements=entitlements,
                accounts=accounts,
            )
        ),
        "homeroom.subscription.v1.LicenseService": LicenseServicer(
            operations=LicenseOperations(
                store=LicenseStore(database=database, pinned_time=pinned_time),
                reader=LicenseReader(database=database),
                accounts=accounts,
                feed=feed,
            ),
            feed=feed,
        ),
    }


async def migrate(_shutdown: Shutdown) -> None:
    """Bring the database to the schema known here."""
    config = load(MigrationConfig, os.environ)
    logs.configure(service=SERVICE, version=version(), level=config.log_level)
    applied = await chassis.migrations.migrate(config.migration_database_url.reveal(), MIGRATIONS)
    logs.get_logger(__name__).info("migrated", applied=[str(migration) for migration in applied])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {SERVICE}", description="What a learner is entitled to."
    )
    parser.add_argument("command", nargs="?", choices=("run", "migrate"), default="run")
    return run(migrate if parser.parse_args().command == "migrate" else serve)


if __name__ == "__main__":
    sys.exit(main())
