"""`python -m progress_service [run|migrate]`: the only place where the parts of the service meet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import chassis.postgres.migrations
from chassis.postgres import Database
from chassis.postgres.relay import Relay
from chassis.process.background import Background
from chassis.process.config import load
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler
from chassis.telemetry.metrics import Metrics
from progress_service.config import Config
from progress_service.domain.license_orders import LICENSE_TOPIC
from progress_service.operations.comparison import StoreComparison
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import StatisticsOperations
from progress_service.operations.sync_changes import SyncChanges
from progress_service.operations.sync_orders import SyncOrders
from progress_service.operations.sync_runs import SyncRuns
from progress_service.servicer import statistics, sync
from progress_service.store.grants import GrantStore
from progress_service.store.level_reads import LevelReader
from progress_service.store.results import ResultStore
from progress_service.store.statistics import StatisticsStore
from progress_service.store.sync_changes import SyncChangeStore
from progress_service.store.sync_runs import SyncRunStore
from progress_service.subscription_client import SubscriptionClient

SERVICE = "progress_service"
SYNC_WORK_SECONDS = 2.0
SYNC_SCHEDULE_SECONDS = 60.0
SYNC_PURGE_SECONDS = 3600.0
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


def handlers(*, database: Database, wake_relay: Callable[[], object], metrics: Metrics) -> list[Handler]:
    """All methods of the service, over this database. `wake_relay` is called after a commit with events."""
    return statistics.handlers(
        results=ResultOperations(store=ResultStore(database), wake_relay=wake_relay, metrics=metrics),
        statistics=StatisticsOperations(store=StatisticsStore(database)),
    )


@dataclass(frozen=True, slots=True)
class SyncParts:
    """What brings progress and licenses into step: what is served, and the background work."""

    handlers: list[Handler]
    runs: SyncRuns


def assemble_sync(
    *,
    database: Database,
    subscription: SubscriptionClient,
    wake_relay: Callable[[], object],
    metrics: Metrics,
    tokens: PageTokens,
    interval: timedelta,
    retention: timedelta,
    age_seconds_min: float,
) -> SyncParts:
    """Put these parts together on one database; nothing is started yet."""
    levels = LevelReader(database)
    stored_runs, stored_changes = SyncRunStore(database), SyncChangeStore(database)
    comparison = StoreComparison(levels=levels, licenses=subscription, age_seconds_min=age_seconds_min)
    runs = SyncRuns(
        runs=stored_runs,
        changes=stored_changes,
        comparison=comparison,
        carrying_out=SyncChanges(
            changes=stored_changes,
            grants=GrantStore(database),
            levels=levels,
            licenses=subscription,
            wake_relay=wake_relay,
            metrics=metrics,
        ),
        interval=interval,
        retention=retention,
        age_seconds_min=age_seconds_min,
    )
    return SyncParts(
        handlers=sync.handlers(
            comparison=comparison,
            orders=SyncOrders(runs=stored_runs, changes=stored_changes, work=runs),
            list_runs=stored_changes.list_runs,
            age_seconds_min=age_seconds_min,
            tokens=tokens,
        ),
        runs=runs,
    )


def add_sync_jobs(background: Background, runs: SyncRuns) -> None:
    """Add the work on runs, and their schedule."""
    job = background.add("work_sync_runs", runs.work, interval_seconds=SYNC_WORK_SECONDS)
    runs.at_wake(job.wake)
    background.add("begin_due_sync_run", runs.begin_due, interval_seconds=SYNC_SCHEDULE_SECONDS)
    background.add("purge_sync_runs", runs.purge, interval_seconds=SYNC_PURGE_SECONDS)


async def serve(shutdown: Shutdown) -> None:
    """Serve until the shutdown is requested; refuses a database whose schema this program does not know."""
    config = load(Config, os.environ)
    service = await Service.begin(SERVICE, config=config, migrations=MIGRATIONS, shutdown=shutdown)
    to_subscription = service.process.upstream("subscription_service", config.subscription_target)
    subscription = SubscriptionClient(upstream=to_subscription)
    relay = Relay(service.database, {LICENSE_TOPIC: subscription.deliver_orders})
    # Without subscription_service the licenses follow later; progress is recorded all the same.
    service.process.health.add("subscription_service", to_subscription.check_health, required=False)
    service.add_relay(relay)
    synchronizing = assemble_sync(
        database=service.database,
        subscription=subscription,
        wake_relay=relay.wake,
        metrics=service.process.metrics,
        tokens=PageTokens(secret=service.process.token),
        interval=timedelta(hours=config.sync_interval_hours),
        retention=timedelta(days=config.sync_retention_days),
        age_seconds_min=config.sync_age_seconds,
    )
    add_sync_jobs(service.process.background, synchronizing.runs)
    await service.listen(
        [
            *handlers(database=service.database, wake_relay=relay.wake, metrics=service.process.metrics),
            *synchronizing.handlers,
        ]
    )
    await shutdown.wait()


if __name__ == "__main__":
    sys.exit(run_command(SERVICE, purpose="What a learner has achieved.", serve=serve, migrations=MIGRATIONS))
