"""The process of a gRPC service with a database of its own: its commands, its start, and its server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NoReturn

import chassis.postgres.migrations
from chassis import failpoints
from chassis.postgres import Database, DatabaseMisconfigured, DatabaseUnavailable
from chassis.postgres.idempotency import purge_keys
from chassis.postgres.migrations import MigrationError, SchemaMismatch
from chassis.postgres.relay import Relay
from chassis.process.background import STOP_SECONDS_MAX, Background
from chassis.process.config import ConfigError, MigrationConfig, Mode, ServiceConfig, load
from chassis.process.lifecycle import Shutdown, StartError, run, tune_garbage_collection
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
READINESS_INTERVAL_SECONDS = 1.0
# How long a start waits for a database that is down: longer than a database that starts beside us needs, and
# shorter than people wait for the log line that says why.
DATABASE_WAIT_SECONDS_MAX = 10.0
DATABASE_RETRY_SECONDS = 0.5

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts that every service has; all of them are closed at the end of the process."""

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
        """Open what every service needs.

        Raises:
            ConfigError: the configuration cannot work, such as a wrong password of the database.
            StartError: the database cannot be reached, or its schema is not the one known here.
        """
        token = config.service_token.reveal() if config.service_token else ""
        logs.configure(service=name, version=version(), level=config.log_level, hash_secret=token)
        try:
            failpoints.configure(config.failpoints_dir, allowed=config.mode is Mode.DEVELOPMENT)
        except ValueError as error:
            raise ConfigError([str(error)]) from error
        metrics = Metrics(service=name, version=version())
        tracing = Tracing(
            service=name,
            version=version(),
            sample_ratio=config.trace_sample_ratio,
            trace_file=config.trace_file,
            otlp_endpoint=config.otlp_endpoint,
        )
        shutdown.closing("tracing", tracing.close)
        database = await _open_database(name, config, shutdown)
        shutdown.closing("database", database.close)
        try:
            await chassis.postgres.migrations.check(database, migrations)
        except (SchemaMismatch, DatabaseUnavailable) as error:
            raise StartError(str(error)) from error
        metrics.gauge("database_waiting", "Calls that wait for a connection.", lambda: database.pool_waiting)
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
        """A client of another process; it is closed after the work that uses it has ended."""
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
            "Events of the outbox by outcome; a parked event needs an operator.",
            lambda: {
                ("delivered",): relay.delivered,
                ("failed",): relay.failed,
                ("parked",): relay.parked,
            },
            ("outcome",),
        )

    async def listen(self, handlers: Sequence[Handler]) -> None:
        """Serve the operations pages and the handlers, and begin the background work."""
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

        async def report_readiness() -> None:
            await server.set_serving(self.health.is_ready(await self.health.results()))

        # Callers ask the gRPC server, load balancers the operations pages: both get the same answer.
        self.background.add("report_readiness", report_readiness, interval_seconds=READINESS_INTERVAL_SECONDS)
        self.shutdown.at_request(self.health.drain)
        self.background.start()
        self.shutdown.closing("background", self.background.stop, timeout_seconds=STOP_SECONDS_MAX + 1.0)
        await ops.start()
        self.shutdown.closing("operations pages", ops.stop)
        await server.start()
        self.shutdown.closing("server", server.stop, timeout_seconds=SERVER_STOP_SECONDS_MAX)
        tune_garbage_collection()
        log.info("serving", port=server.port, ops_port=ops.port)


def run_command(
    name: str,
    *,
    purpose: str,
    serve: Callable[[Shutdown], Awaitable[None]],
    migrations: Mapping[str, Path],
) -> NoReturn:
    """Carry out the command line, `run` or `migrate`, and end the process."""

    async def migrate(_shutdown: Shutdown) -> None:
        config = load(MigrationConfig, os.environ)
        logs.configure(service=name, version=version(), level=config.log_level)
        try:
            applied = await chassis.postgres.migrations.migrate(
                config.migration_database_url.reveal(), migrations
            )
        except DatabaseMisconfigured as error:
            raise ConfigError([f"HOMEROOM_MIGRATION_DATABASE_URL cannot be used: {error.detail}"]) from error
        except DatabaseUnavailable as error:
            raise StartError(error.detail) from error
        except (MigrationError, TimeoutError) as error:
            raise StartError(str(error) or "the migrations took too long") from error
        log.info("migrated", applied=[str(migration) for migration in applied])

    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=purpose)
    parser.add_argument("command", nargs="?", choices=("run", "migrate"), default="run")
    run(migrate if parser.parse_args().command == "migrate" else serve, name=name)


async def _open_database(name: str, config: ServiceConfig, shutdown: Shutdown) -> Database:
    """Connect; a database that is down is waited for, because it is often started at the same time."""
    give_up_at = time.monotonic() + DATABASE_WAIT_SECONDS_MAX
    while True:
        try:
            return await Database.connect(
                config.database_url.reveal(),
                maximum=config.database_connections_max,
                application_name=name,
                statement_cache_size=config.database_statement_cache,
            )
        except DatabaseMisconfigured as error:
            raise ConfigError([f"HOMEROOM_DATABASE_URL cannot be used: {error.detail}"]) from error
        except DatabaseUnavailable as error:
            if shutdown.requested or time.monotonic() >= give_up_at:
                raise StartError(error.detail) from error
            log.warning("database_unavailable_at_start", problem=error.detail)
        pause_seconds = DATABASE_RETRY_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 — jitter
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_seconds):
                await shutdown.wait()
