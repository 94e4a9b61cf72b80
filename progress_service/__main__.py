"""`python -m progress_service [run|migrate|diagnose|import]`: the only place where its parts meet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import chassis.postgres.migrations
from chassis.cache.clock import DatabaseClock
from chassis.cache.versioned import VersionedCache
from chassis.postgres import Database
from chassis.postgres.relay import Relay
from chassis.process.background import Background
from chassis.process.config import load
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler
from chassis.telemetry.metrics import Metrics
from progress_service import import_command
from progress_service.account_client import AccountClient
from progress_service.config import Config
from progress_service.domain.license_orders import LICENSE_TOPIC
from progress_service.operations.access import AccessOperations
from progress_service.operations.catalog_changes import LevelRaising
from progress_service.operations.changes import ChangeOperations
from progress_service.operations.comparison import StoreComparison
from progress_service.operations.completions import CompletionOperations
from progress_service.operations.courses import CourseOperations
from progress_service.operations.diagnosis import REPAIRS, checks
from progress_service.operations.enrollments import EnrollmentOperations
from progress_service.operations.import_progress import ProgressImport, Progressing
from progress_service.operations.license_following import LicenseFollowing
from progress_service.operations.resets import ResetOperations
from progress_service.operations.results import ResultOperations
from progress_service.operations.specializations import SpecializationOperations
from progress_service.operations.statistics import StatisticsOperations
from progress_service.operations.sync_changes import SyncChanges
from progress_service.operations.sync_orders import SyncOrders
from progress_service.operations.sync_runs import SyncRuns
from progress_service.operations.watching import WatchingOperations
from progress_service.servicer import (
    achievements,
    changes,
    courses,
    lessons,
    resets,
    result_checks,
    specializations,
    statistics,
    sync,
)
from progress_service.store.access_cache import AccessCache
from progress_service.store.achievements import AchievementStore
from progress_service.store.cache_entries import CACHED_ENTRIES, CachedEntries, cache_checks
from progress_service.store.catalog_changes import CatalogChangeStore
from progress_service.store.completions import CompletionStore
from progress_service.store.courses import CourseStore
from progress_service.store.editions import EditionCache
from progress_service.store.enrollments import EnrollmentStore
from progress_service.store.imports import ImportStore
from progress_service.store.learner_versions import VersionStore
from progress_service.store.level_reads import LevelReader
from progress_service.store.license_feed import LicenseFeedStore
from progress_service.store.modules import ModuleStore
from progress_service.store.resets import ResetStore
from progress_service.store.result_checks import ResultCheckStore
from progress_service.store.results import ResultStore
from progress_service.store.specializations import SpecializationStore
from progress_service.store.standings import StandingReader, StandingStore
from progress_service.store.statistics import StatisticsStore
from progress_service.store.sync_changes import SyncChangeStore
from progress_service.store.sync_grants import GrantStore
from progress_service.store.sync_runs import SyncRunStore
from progress_service.store.unlocked_completions import UnlockedCompletionStore
from progress_service.store.watching import WatchingStore
from progress_service.subscription_client import SubscriptionClient

SERVICE = "progress_service"
SYNC_WORK_SECONDS = 2.0
SYNC_SCHEDULE_SECONDS = 60.0
SYNC_PURGE_SECONDS = 3600.0
RAISE_LEVELS_INTERVAL_SECONDS = 5.0
FOLLOW_LICENSES_INTERVAL_SECONDS = 1.0
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


@dataclass(frozen=True, slots=True)
class Wakes:
    """What makes background work run now: the relay after new events, the raising after a new catalog."""

    relay: Callable[[], object]
    raising: Callable[[], object]


def handlers(*, database: Database, wakes: Wakes, tokens: PageTokens, metrics: Metrics) -> list[Handler]:
    """All methods of the service, over this database."""
    catalog, stored_results = SpecializationStore(database), ResultCheckStore(database)
    return [
        *statistics.handlers(
            results=ResultOperations(store=ResultStore(database), wake_relay=wakes.relay, metrics=metrics),
            statistics=StatisticsOperations(store=StatisticsStore(database)),
        ),
        *specializations.handlers(
            operations=SpecializationOperations(store=catalog, wake_raising=wakes.raising),
            list_specializations=catalog.list_specializations,
            list_progress=catalog.list_progress,
            tokens=tokens,
        ),
        *resets.handlers(operations=ResetOperations(store=ResetStore(database), wake_relay=wakes.relay)),
        *changes.handlers(changes=ChangeOperations(store=VersionStore(database))),
        *achievements.handlers(list_achievements=AchievementStore(database).list_achievements, tokens=tokens),
        *result_checks.handlers(
            find_results=stored_results.find_results, list_results=stored_results.list_results, tokens=tokens
        ),
    ]


@dataclass(frozen=True, slots=True)
class SyncParts:
    """What brings progress and licenses into step: what is served, and the background work."""

    handlers: list[Handler]
    runs: SyncRuns
    comparison: StoreComparison


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
        comparison=comparison,
    )


def add_sync_jobs(background: Background, runs: SyncRuns) -> None:
    """Add the work on runs, and their schedule."""
    job = background.add("work_sync_runs", runs.work, interval_seconds=SYNC_WORK_SECONDS)
    runs.at_wake(job.wake)
    background.add("begin_due_sync_run", runs.begin_due, interval_seconds=SYNC_SCHEDULE_SECONDS)
    background.add("purge_sync_runs", runs.purge, interval_seconds=SYNC_PURGE_SECONDS)


def learning_handlers(
    *,
    database: Database,
    accounts: AccountClient,
    cache: VersionedCache,
    clock: DatabaseClock,
    wake_relay: Callable[[], object],
    metrics: Metrics,
    tokens: PageTokens,
) -> list[Handler]:
    """The methods of courses and lessons. The clock is the one by which the cache tells ages."""
    editions = EditionCache()
    course_store = CourseStore(database=database, editions=editions)
    reader = StandingReader(editions=editions, clock=clock)
    enrollment_store = EnrollmentStore(database=database, standings=reader, wake_relay=wake_relay)
    modules = ModuleStore(database=database)
    standings = StandingStore(database=database, standings=reader)
    access_cache = AccessCache(cache=cache)
    return [
        *courses.handlers(
            courses=CourseOperations(store=course_store),
            list_courses=course_store.list_courses,
            tokens=tokens,
        ),
        *lessons.handlers(
            enrollments=EnrollmentOperations(store=enrollment_store, accounts=accounts),
            completions=CompletionOperations(
                store=CompletionStore(database=database, standings=reader, wake_relay=wake_relay),
                unlocked=UnlockedCompletionStore(database=database, editions=editions, clock=clock),
                standings=standings,
                modules=modules,
                accounts=accounts,
                cache=access_cache,
            ),
            access=AccessOperations(
                standings=standings, modules=modules, cache=access_cache, metrics=metrics
            ),
            watching=WatchingOperations(
                store=WatchingStore(database=database, standings=reader), modules=modules
            ),
            list_enrollments=enrollment_store.list_enrollments,
            tokens=tokens,
        ),
    ]


async def serve(shutdown: Shutdown) -> None:
    """Serve until the shutdown is requested; refuses a database whose schema this program does not know."""
    config = load(Config, os.environ)
    service = await Service.begin(SERVICE, config=config, migrations=MIGRATIONS, shutdown=shutdown)
    database, process = service.database, service.process
    to_subscription = process.upstream("subscription_service", config.subscription_target)
    # Without subscription_service the licenses follow later; progress is recorded all the same.
    process.health.add("subscription_service", to_subscription.check_health, required=False)
    subscription = SubscriptionClient(upstream=to_subscription)
    relay = Relay(database, {LICENSE_TOPIC: subscription.deliver_orders}, in_order={LICENSE_TOPIC})
    service.add_relay(relay)
    raising = process.background.add(
        "raise_levels",
        LevelRaising(store=CatalogChangeStore(database), wake_relay=relay.wake).raise_due,
        interval_seconds=RAISE_LEVELS_INTERVAL_SECONDS,
    )
    process.background.add(
        "follow_licenses",
        LicenseFollowing(
            store=LicenseFeedStore(database),
            subscription=subscription,
            wake_relay=relay.wake,
            metrics=process.metrics,
        ).follow,
        interval_seconds=FOLLOW_LICENSES_INTERVAL_SECONDS,
        cancel_at_stop=True,
    )
    tokens = PageTokens(secret=process.token)
    synchronizing = assemble_sync(
        database=database,
        subscription=subscription,
        wake_relay=relay.wake,
        metrics=process.metrics,
        tokens=tokens,
        interval=timedelta(hours=config.sync_interval_hours),
        retention=timedelta(days=config.sync_retention_days),
        age_seconds_min=config.sync_age_seconds,
    )
    add_sync_jobs(process.background, synchronizing.runs)
    clock = DatabaseClock()
    cache = VersionedCache(
        url=config.redis_url.reveal() if config.redis_url else None,
        secret=process.token,
        name="access",
        clock=clock,
        metrics=process.metrics,
        stale_seconds=config.cache_stale_seconds,
    )
    shutdown.closing("cache", cache.close)
    access_cache = AccessCache(cache=cache)
    process.health.add("cache", cache.check_health, required=False)
    await service.listen(
        [
            *handlers(
                database=database,
                wakes=Wakes(relay=relay.wake, raising=raising.wake),
                tokens=tokens,
                metrics=process.metrics,
            ),
            *synchronizing.handlers,
            *learning_handlers(
                database=database,
                accounts=AccountClient(upstream=to_subscription),
                cache=cache,
                clock=clock,
                wake_relay=relay.wake,
                metrics=process.metrics,
                tokens=tokens,
            ),
            *service.add_diagnostics(
                checks=[
                    *checks(database, stores=synchronizing.comparison),
                    *cache_checks(database, access_cache, clock, stale_seconds=config.cache_stale_seconds),
                ],
                repairs=REPAIRS,
                others={CACHED_ENTRIES: CachedEntries(access_cache)},
                environment_checks=(),
                tokens=tokens,
                at_change=relay.wake,
            ),
        ]
    )
    await shutdown.wait()


def assemble_import(database: Database, tell: Callable[[Progressing], object]) -> ProgressImport:
    """An import of existing progress into this database."""
    standings = StandingReader(editions=EditionCache(), clock=DatabaseClock())
    return ProgressImport(
        store=ImportStore(database=database, standings=standings), runs=SyncRunStore(database), tell=tell
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["import"]:
        sys.exit(import_command.main(sys.argv[2:], assemble=assemble_import, migrations=MIGRATIONS))
    sys.exit(
        run_command(
            SERVICE,
            purpose="What a learner has achieved.",
            serve=serve,
            migrations=MIGRATIONS,
            config=Config,
        )
    )
