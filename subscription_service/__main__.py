"""`python -m subscription_service [run|migrate]`: the only place where the parts of the service meet."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import chassis.postgres.migrations
from chassis.process.config import load
from chassis.postgres import Database
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command
from subscription_service.config import Config
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
START_SECONDS_MAX = 10.0
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


async def serve(shutdown: Shutdown) -> None:
    """Serve until the end is asked for; refuses a database whose schema is not the one known here."""
    config = load(Config, os.environ)
    service = await Service.begin(SERVICE, config=config, migrations=MIGRATIONS, shutdown=shutdown)
    await raise_feed_origin(service.database, deadline=time.monotonic() + START_SECONDS_MAX)
    feed = LicenseFeed(
        reader=LicenseReader(database=service.database), poll_seconds=config.license_poll_seconds
    )
    shutdown.at_request(feed.close)
    await service.listen(servicers(service.database, feed))
    run_until_closed(shutdown, "listening", listen_for_changes(config.database_url.reveal(), feed.hasten))
    housekeeping = HousekeepingStore(database=service.database)
    run_until_closed(
        shutdown, "housekeeping", keep_house(housekeeping, key_age=timedelta(days=config.idempotency_days))
    )
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


if __name__ == "__main__":
    sys.exit(
        run_command(SERVICE, purpose="What a learner is entitled to.", serve=serve, migrations=MIGRATIONS)
    )
