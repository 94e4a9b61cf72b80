"""`python -m progress_service [run|migrate]`: the only place where the parts of the service meet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import chassis.postgres.migrations
from chassis.postgres import Database
from chassis.postgres.relay import Relay
from chassis.process.config import load
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command
from chassis.rpc.servicing import Handler
from chassis.telemetry.metrics import Metrics
from progress_service.config import Config
from progress_service.domain.license_orders import LICENSE_TOPIC
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import StatisticsOperations
from progress_service.servicer import statistics
from progress_service.store.results import ResultStore
from progress_service.store.statistics import StatisticsStore
from progress_service.subscription_client import SubscriptionClient

SERVICE = "progress_service"
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


def handlers(*, database: Database, wake_relay: Callable[[], object], metrics: Metrics) -> list[Handler]:
    """All methods of the service, over this database. `wake_relay` is called after a commit with events."""
    return statistics.handlers(
        results=ResultOperations(store=ResultStore(database), wake_relay=wake_relay, metrics=metrics),
        statistics=StatisticsOperations(store=StatisticsStore(database)),
    )


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
    await service.listen(
        handlers(database=service.database, wake_relay=relay.wake, metrics=service.process.metrics)
    )
    await shutdown.wait()


if __name__ == "__main__":
    sys.exit(run_command(SERVICE, purpose="What a learner has achieved.", serve=serve, migrations=MIGRATIONS))
