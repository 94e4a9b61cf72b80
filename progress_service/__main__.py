"""`python -m progress_service [run|migrate]`: the only place where the parts of the service meet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import chassis.postgres.migrations
from chassis.postgres import Database
from chassis.postgres.relay import Relay
from chassis.process.config import load
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler
from chassis.telemetry.metrics import Metrics
from progress_service.config import Config
from progress_service.domain.license_orders import LICENSE_TOPIC
from progress_service.operations.catalog_changes import LevelRaising
from progress_service.operations.results import ResultOperations
from progress_service.operations.specializations import SpecializationOperations
from progress_service.operations.statistics import StatisticsOperations
from progress_service.servicer import achievements, specializations, statistics
from progress_service.store.achievements import AchievementStore
from progress_service.store.catalog_changes import CatalogChangeStore
from progress_service.store.results import ResultStore
from progress_service.store.specializations import SpecializationStore
from progress_service.store.statistics import StatisticsStore
from progress_service.subscription_client import SubscriptionClient

SERVICE = "progress_service"
RAISE_LEVELS_INTERVAL_SECONDS = 5.0
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


@dataclass(frozen=True, slots=True)
class Wakes:
    """What makes background work run now: the relay after new events, the raising after a new catalog."""

    relay: Callable[[], object]
    raising: Callable[[], object]


def handlers(*, database: Database, wakes: Wakes, tokens: PageTokens, metrics: Metrics) -> list[Handler]:
    """All methods of the service, over this database."""
    catalog = SpecializationStore(database)
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
        *achievements.handlers(list_achievements=AchievementStore(database).list_achievements, tokens=tokens),
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
    await service.listen(
        handlers(
            database=database,
            wakes=Wakes(relay=relay.wake, raising=raising.wake),
            tokens=PageTokens(secret=process.token),
            metrics=process.metrics,
        )
    )
    await shutdown.wait()


if __name__ == "__main__":
    sys.exit(run_command(SERVICE, purpose="What a learner has achieved.", serve=serve, migrations=MIGRATIONS))
