"""`python -m progress_service [run|migrate]`: the only place where the parts of the service meet."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

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
from progress_service.config import Config, MigrationConfig
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import StatisticsOperations
from progress_service.servicer import statistics as servicer
from progress_service.store.results import ResultStore
from progress_service.store.statistics import StatisticsStore

SERVICE = "progress_service"
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

    server = Server(
        bind=config.bind,
        servicers={
            servicer.NAME: servicer.StatisticsServicer(
                results=ResultOperations(store=ResultStore(database), metrics=metrics),
                statistics=StatisticsOperations(store=StatisticsStore(database)),
            )
        },
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
    tune_garbage_collection()
    logs.get_logger(__name__).info("serving", port=server.port, ops_port=ops.port)
    await shutdown.wait()


async def migrate(_shutdown: Shutdown) -> None:
    """Bring the database to the schema known here."""
    config = load(MigrationConfig, os.environ)
    logs.configure(service=SERVICE, version=version(), level=config.log_level)
    applied = await chassis.migrations.migrate(config.migration_database_url.reveal(), MIGRATIONS)
    logs.get_logger(__name__).info("migrated", applied=[str(migration) for migration in applied])


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {SERVICE}", description="What a learner has achieved.")
    parser.add_argument("command", nargs="?", choices=("run", "migrate"), default="run")
    return run(migrate if parser.parse_args().command == "migrate" else serve)


if __name__ == "__main__":
    sys.exit(main())
