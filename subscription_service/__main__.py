"""`python -m subscription_service [run|migrate|diagnose]`: the only place where its parts meet."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

import chassis.postgres.migrations
from chassis.postgres import Database
from chassis.process.config import load
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler
from subscription_service.config import Config
from subscription_service.operations.accounts import AccountOperations
from subscription_service.operations.credits import CreditOperations
from subscription_service.operations.diagnosis import REPAIRS, checks, special_rows
from subscription_service.operations.entitlements import EntitlementOperations
from subscription_service.operations.holds import HoldOperations
from subscription_service.operations.license_feed import LicenseFeed
from subscription_service.operations.licenses import LicenseOperations
from subscription_service.operations.plans import PlanOperations
from subscription_service.operations.subscriptions import SubscriptionOperations
from subscription_service.servicer import (
    account_checks,
    accounts,
    changes,
    hold_checks,
    holds,
    license_levels,
    licenses,
    plans,
)
from subscription_service.servicer import credits as credit_servicer
from subscription_service.store.accounts import AccountStore
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.credits import CreditStore
from subscription_service.store.entitlements import EntitlementStore
from subscription_service.store.environment import ENVIRONMENT_CHECKS
from subscription_service.store.hold_checks import HoldCheckStore
from subscription_service.store.holds import HoldStore
from subscription_service.store.license_notifications import listen_until_lost
from subscription_service.store.license_reads import LicenseReader, raise_feed_origin
from subscription_service.store.licenses import LicenseStore
from subscription_service.store.plans import PlanStore
from subscription_service.store.subscriptions import SubscriptionStore

SERVICE = "subscription_service"
START_SECONDS_MAX = 10.0
LISTEN_AGAIN_SECONDS = 1.0
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


async def serve(shutdown: Shutdown) -> None:
    """Serve until the shutdown is requested; refuses a database whose schema this program does not know."""
    config = load(Config, os.environ)
    service = await Service.begin(SERVICE, config=config, migrations=MIGRATIONS, shutdown=shutdown)
    await raise_feed_origin(service.database, deadline=time.monotonic() + START_SECONDS_MAX)
    feed = LicenseFeed(
        reader=LicenseReader(database=service.database), poll_seconds=config.license_poll_seconds
    )
    shutdown.at_request(feed.close)
    service.process.background.add(
        "license_notifications",
        partial(listen_until_lost, config.database_url.reveal(), feed.wake),
        interval_seconds=LISTEN_AGAIN_SECONDS,
        cancel_at_stop=True,
    )
    tokens = PageTokens(secret=service.process.token)
    await service.listen(
        [
            *handlers(service.database, feed, tokens=tokens),
            *service.add_diagnostics(
                checks=checks(service.database),
                repairs=REPAIRS,
                environment_checks=ENVIRONMENT_CHECKS,
                tokens=tokens,
                others=special_rows(),
            ),
        ]
    )
    await shutdown.wait()


def handlers(
    database: Database, feed: LicenseFeed, *, tokens: PageTokens, pinned_time: PinnedTime = database_time
) -> list[Handler]:
    """All methods of this process, on one database."""
    account_store = AccountStore(database=database, pinned_time=pinned_time)
    entitlement_store = EntitlementStore(database=database, pinned_time=pinned_time)
    subscription_store = SubscriptionStore(database=database, pinned_time=pinned_time)
    plan_store = PlanStore(database=database)
    hold_store = HoldStore(database=database, pinned_time=pinned_time)
    license_reader = LicenseReader(database=database)
    entitlements = EntitlementOperations(store=entitlement_store)
    account_operations = AccountOperations(store=account_store)
    license_operations = LicenseOperations(
        store=LicenseStore(database=database, pinned_time=pinned_time),
        reader=license_reader,
        accounts=account_store,
        feed=feed,
    )
    return [
        *accounts.handlers(
            accounts=account_operations,
            subscriptions=SubscriptionOperations(store=subscription_store),
            entitlements=entitlements,
            list_changes=subscription_store.list_changes,
            tokens=tokens,
        ),
        *account_checks.handlers(accounts=account_operations),
        *changes.handlers(entitlements=entitlements),
        *plans.handlers(
            operations=PlanOperations(store=plan_store), list_plans=plan_store.list_plans, tokens=tokens
        ),
        *holds.handlers(
            operations=HoldOperations(store=hold_store),
            list_open_holds=hold_store.list_open_holds,
            tokens=tokens,
        ),
        *hold_checks.handlers(find_holds=HoldCheckStore(database=database).find_holds),
        *credit_servicer.handlers(
            operations=CreditOperations(
                store=CreditStore(database=database, pinned_time=pinned_time),
                entitlements=entitlement_store,
                accounts=account_store,
            ),
            tokens=tokens,
        ),
        *licenses.handlers(operations=license_operations, watch_licenses=feed.watch, tokens=tokens),
        *license_levels.handlers(
            operations=license_operations, list_levels=license_reader.list_levels, tokens=tokens
        ),
    ]


if __name__ == "__main__":
    sys.exit(
        run_command(
            SERVICE,
            purpose="What a learner is entitled to.",
            serve=serve,
            migrations=MIGRATIONS,
            config=Config,
            checks=ENVIRONMENT_CHECKS,
        )
    )
