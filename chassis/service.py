"""The process of a gRPC service with a database of its own: its commands, how it begins, and how it opens."""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import chassis.migrations
from chassis import failpoints, logs
from chassis.config import MigrationConfig, ServiceConfig, load
from chassis.health import Health, OpsServer
from chassis.metrics import Metrics
from chassis.postgres import Database
from chassis.process import Shutdown, run, tune_garbage_collection
from chassis.server import Server
from chassis.tracing import Tracing
from chassis.version import version

SERVER_STOP_SECONDS_MAXIMUM = 10.0

# Said in the program's name, as the gateway says it.
_log = logs.get_logger("__main__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a service has before it adds its own; all of it is closed at the end of the process."""

    name: str
    config: ServiceConfig
    shutdown: Shutdown
    token: str = field(repr=False)
    metrics: Metrics
    tracing: Tracing
    database: Database
    health: Health

    @classmethod
    async def begin(
        cls, name: str, *, config: ServiceConfig, migrations: Mapping[str, Path], shutdown: Shutdown
    ) -> Service:
        """Open what every service needs; refuses a database whose schema is not the one known here."""
        token = config.service_token.reveal() if config.service_token else ""
        logs.configure(service=name, version=version(), level=config.log_level, hash_secret=token)
        failpoints.configure(config.failpoints_dir, config.mode)
        metrics = Metrics(service=name, version=version())
        tracing = Tracing(
            service=name,
            version=version(),
            sample_ratio=config.trace_sample_ratio,
            trace_file=config.trace_file,
            otlp_endpoint=config.otlp_endpoint,
        )
        shutdown.closing("tracing", tracing.close)
        database = await Database.connect(
            config.database_url.reveal(),
            maximum=config.database_connections_maximum,
            application_name=name,
        )
        shutdown.closing("database", database.close)
        await chassis.migrations.check(database, migrations)
        metrics.gauge("database_waiting", "Calls that wait for a connection", lambda: database.pool_waiting)
        health = Health()
        health.add("database", database.ping)
        return cls(
            name=name,
            config=config,
            shutdown=shutdown,
            token=token,
            metrics=metrics,
            tracing=tracing,
            database=database,
            health=health,
        )

    async def listen(self, servicers: Mapping[str, object]) -> None:
        """Show how the process does, and serve; what these rest on must have begun."""
        server = Server(
            bind=self.config.bind,
            servicers=servicers,
            service_token=self.token,
            tracing=self.tracing,
            metrics=self.metrics,
        )
        ops = OpsServer(
            bind=self.config.ops_bind,
            service=self.name,
            version=version(),
            health=self.health,
            metrics=self.metrics,
        )
        self.shutdown.at_request(self.health.drain)
        await ops.start()
        self.shutdown.closing("operations pages", ops.stop)
        await server.start()
        self.shutdown.closing("server", server.stop, timeout_seconds=SERVER_STOP_SECONDS_MAXIMUM)
        tune_garbage_collection()
        _log.info("serving", port=server.port, ops_port=ops.port)


def run_command(
    name: str,
    *,
    purpose: str,
    serve: Callable[[Shutdown], Awaitable[None]],
    migrations: Mapping[str, Path],
) -> int:
    """Do what the command line says, `run` or `migrate`, and return the exit code."""

    async def migrate(_shutdown: Shutdown) -> None:
        config = load(MigrationConfig, os.environ)
        logs.configure(service=name, version=version(), level=config.log_level)
        applied = await chassis.migrations.migrate(config.migration_database_url.reveal(), migrations)
        _log.info("migrated", applied=[str(migration) for migration in applied])

    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=purpose)
    parser.add_argument("command", nargs="?", choices=("run", "migrate"), default="run")
    return run(migrate if parser.parse_args().command == "migrate" else serve)
