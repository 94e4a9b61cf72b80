"""`python -m progress_service [run|migrate]`: the only place where the parts of the service meet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import chassis.postgres.migrations
from chassis.cache.clock import DatabaseClock
from chassis.cache.versioned import VersionedCache
from chassis.postgres import Database
from chassis.postgres.relay import Relay
from chassis.process.config import load
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler
from chassis.telemetry.metrics import Metrics
from progress_service.account_client import AccountClient
from progress_service.config import Config
from progress_service.domain.license_orders import LICENSE_TOPIC
from progress_service.operations.access import AccessOperations
from progress_service.operations.completions import CompletionOperations
from progress_service.operations.courses import CourseOperations
from progress_service.operations.enrollments import EnrollmentOperations
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import StatisticsOperations
from progress_service.operations.watching import WatchingOperations
from progress_service.servicer import courses, lessons, statistics
from progress_service.store.access_cache import AccessCache
from progress_service.store.completions import CompletionStore
from progress_service.store.courses import CourseStore
from progress_service.store.editions import EditionCache
from progress_service.store.enrollments import EnrollmentStore
from progress_service.store.modules import ModuleStore
from progress_service.store.results import ResultStore
from progress_service.store.standings import StandingReader, StandingStore
from progress_service.store.statistics import StatisticsStore
from progress_service.store.watching import WatchingStore
from progress_service.subscription_client import SubscriptionClient

SERVICE = "progress_service"
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


def handlers(*, database: Database, wake_relay: Callable[[], object], metrics: Metrics) -> list[Handler]:
    """The methods of results and statistics. `wake_relay` is called after a commit with events."""
    return statistics.handlers(
        results=ResultOperations(store=ResultStore(database), wake_relay=wake_relay, metrics=metrics),
        statistics=StatisticsOperations(store=StatisticsStore(database)),
    )


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
    to_subscription = service.process.upstream("subscription_service", config.subscription_target)
    subscription = SubscriptionClient(upstream=to_subscription)
    relay = Relay(service.database, {LICENSE_TOPIC: subscription.deliver_orders})
    # Without subscription_service the licenses follow later; progress is recorded all the same.
    service.process.health.add("subscription_service", to_subscription.check_health, required=False)
    service.add_relay(relay)
    process = service.process
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
    process.health.add("cache", cache.check_health, required=False)
    await service.listen(
        [
            *handlers(database=service.database, wake_relay=relay.wake, metrics=process.metrics),
            *learning_handlers(
                database=service.database,
                accounts=AccountClient(upstream=to_subscription),
                cache=cache,
                clock=clock,
                wake_relay=relay.wake,
                metrics=process.metrics,
                tokens=PageTokens(secret=process.token),
            ),
        ]
    )
    await shutdown.wait()


if __name__ == "__main__":
    sys.exit(run_command(SERVICE, purpose="What a learner has achieved.", serve=serve, migrations=MIGRATIONS))
