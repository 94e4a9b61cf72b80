"""The process of a gRPC service with a database of its own: its commands, how it begins, and how it opens."""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import chassis.postgres.migrations
from chassis import failpoints
from chassis.postgres import Database
from chassis.postgres.idempotency import purge_keys
from chassis.postgres.relay import Relay
from chassis.process.background import STOP_SECONDS_MAX, Background
from chassis.process.config import MigrationConfig, Mode, ServiceConfig, load
from chassis.process.lifecycle import Shutdown, run, tune_garbage_collection
from chassis.process.version import version
from chassis.rpc.client import Upstream
from chassis.rpc.server import Server
from chassis.rpc.servicing import Handler
from chassis.telemetry import logs
from chassis.telemetry.health import Health, OpsServer
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing

SERVER_STOP_SECONDS_MAX = 10.0
PURGE_INTERVAL_SECONDS = 60.0
RELAY_INTERVAL_SECONDS = 1.0

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
    background: Background

    @classmethod
    async def begin(
        cls, name: str, *, config: ServiceConfig, migrations: Mapping[str, Path], shutdown: Shutdown
    ) -> Service:
        """Open what every service needs; refuses a database whose schema is not the one known here."""
        token = config.service_token.reveal() if config.service_token else ""
        logs.configure(service=name, version=version(), level=config.log_level, hash_secret=token)
        failpoints.configure(config.failpoints_dir, allowed=config.mode is Mode.DEVELOPMENT)
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
            maximum=config.database_connections_max,
            application_name=name,
        )
        shutdown.closing("database", database.close)
        await chassis.postgres.migrations.check(database, migrations)
        metrics.gauge("database_waiting", "Calls that wait for a connection", lambda: database.pool_waiting)
        health = Health()
        health.add("database", database.ping)
        background = Background(metrics=metrics)
        background.add(
            "purge_keys",
            partial(purge_keys, database, older_than=timedelta(days=config.idempotency_retention_days)),
            interval_seconds=PURGE_INTERVAL_SECONDS,
        )
        return cls(
            name=name,
            config=config,
            shutdown=shutdown,
            token=token,
            metrics=metrics,
            tracing=tracing,
            database=database,
            health=health,
            background=background,
        )

    def upstream(self, name: str, target: str) -> Upstream:
        """Another process that this one calls; closed when the work that uses it has ended."""
        upstream = Upstream(
            name=name, target=target, service_token=self.token, tracing=self.tracing, metrics=self.metrics
        )
        self.shutdown.closing(name, upstream.close)
        return upstream

    def add_relay(self, relay: Relay) -> None:
        """Deliver the events of the outbox, each topic in a job of its own."""
        for topic in relay.topics:
            job = self.background.add(
                f"relay_{topic}", partial(relay.deliver_due, topic), interval_seconds=RELAY_INTERVAL_SECONDS
            )
            relay.at_wake(job.wake)
        self.metrics.gauge(
            "relay_events",
            "Events of the outbox, by what became of them; a parked one needs a human.",
            lambda: {
                ("delivered",): relay.delivered,
                ("failed",): relay.failed,
                ("parked",): relay.parked,
            },
            ("outcome",),
        )

    async def listen(self, handlers: Sequence[Handler]) -> None:
        """Show how the process does, and serve; what these rest on must have begun."""
        server = Server(
            bind=self.config.bind,
            handlers=handlers,
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
        self.background.start()
        self.shutdown.closing("background", self.background.stop, timeout_seconds=STOP_SECONDS_MAX + 1.0)
        await ops.start()
        self.shutdown.closing("operations pages", ops.stop)
        await server.start()
        self.shutdown.closing("server", server.stop, timeout_seconds=SERVER_STOP_SECONDS_MAX)
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
        applied = await chassis.postgres.migrations.migrate(
            config.migration_database_url.reveal(), migrations
        )
        _log.info("migrated", applied=[str(migration) for migration in applied])

    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=purpose)
    parser.add_argument("command", nargs="?", choices=("run", "migrate"), default="run")
    return run(migrate if parser.parse_args().command == "migrate" else serve)
