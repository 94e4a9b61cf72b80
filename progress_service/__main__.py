"""`python -m progress_service [run|migrate]`: the only place where the parts of the service meet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import chassis.postgres.migrations
from chassis.process.config import load
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command
from progress_service.config import Config
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import StatisticsOperations
from progress_service.servicer import statistics as servicer
from progress_service.store.results import ResultStore
from progress_service.store.statistics import StatisticsStore

SERVICE = "progress_service"
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


async def serve(shutdown: Shutdown) -> None:
    """Serve until the end is asked for; refuses a database whose schema is not the one known here."""
    config = load(Config, os.environ)
    service = await Service.begin(SERVICE, config=config, migrations=MIGRATIONS, shutdown=shutdown)
    results = ResultOperations(store=ResultStore(service.database), metrics=service.metrics)
    statistics = StatisticsOperations(store=StatisticsStore(service.database))
    await service.listen({servicer.NAME: servicer.StatisticsServicer(results=results, statistics=statistics)})
    await shutdown.wait()


if __name__ == "__main__":
    sys.exit(run_command(SERVICE, purpose="What a learner has achieved.", serve=serve, migrations=MIGRATIONS))
