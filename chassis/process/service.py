"""The process of a gRPC service with a database of its own: its commands, its start, and its server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NoReturn

import chassis.postgres.migrations
from chassis.diagnostics import servicer as diagnostics_servicer
from chassis.diagnostics.checks import Check
from chassis.diagnostics.environment import ENVIRONMENT_CHECKS, Environment, EnvironmentCheck
from chassis.diagnostics.environment.walk import served
from chassis.diagnostics.operations import Diagnostics
from chassis.diagnostics.repairs import Repair
from chassis.diagnostics.schedule import CheckSchedule
from chassis.diagnostics.tables import Rows
from chassis.postgres import Database, DatabaseMisconfigured, DatabaseUnavailable
from chassis.postgres.idempotency import purge_keys
from chassis.postgres.migrations import MigrationError, SchemaMismatch
from chassis.postgres.relay import Relay
from chassis.process.config import ConfigError, MigrationConfig, ServiceConfig, load
from chassis.process.diagnose import environment_of, run_diagnosis
from chassis.process.lifecycle import Shutdown, StartError, run
from chassis.process.process import Process
from chassis.process.version import version
from chassis.rpc.paging import PageTokens
from chassis.rpc.server import Server
from chassis.rpc.servicing import Handler
from chassis.telemetry import logs

SERVER_STOP_SECONDS_MAX = 10.0
PURGE_INTERVAL_SECONDS = 60.0
RELAY_INTERVAL_SECONDS = 1.0
READINESS_INTERVAL_SECONDS = 1.0
# How often a replica looks whether a check is due.
CHECKS_INTERVAL_SECONDS = 30.0
PURGE_PLANS_INTERVAL_SECONDS = 3600.0
# How long a start waits for a database that is down: longer than a database that starts beside us needs, and
# shorter than people wait for the log line that says why.
DATABASE_WAIT_SECONDS_MAX = 10.0
DATABASE_RETRY_SECONDS = 0.5

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process, its database, and what every service does with it."""

    process: Process
    database: Database
    peers: tuple[str, ...]
    """With mutual TLS, the names in the certificates of those who may call."""
    environment: Environment
    check_interval_hours: float

    @classmethod
    async def begin(
        cls, name: str, *, config: ServiceConfig, migrations: Mapping[str, Path], shutdown: Shutdown
    ) -> Service:
        """Open what every service needs.

        Raises:
            ConfigError: the configuration cannot work, such as a wrong password of the database.
            StartError: the database cannot be reached, or its schema is not the one known here.
        """
        process = Process.begin(name, config, shutdown)
        database = await _open_database(name, config, shutdown)
        shutdown.closing("database", database.close)
        try:
            await chassis.postgres.migrations.check(database, migrations)
        except (SchemaMismatch, DatabaseUnavailable) as error:
            raise StartError(str(error)) from error
        process.metrics.gauge(
            "database_waiting", "Calls that wait for a connection.", lambda: database.pool_waiting
        )
        process.health.add("database", database.ping)
        process.background.add(
            "purge_keys",
            partial(purge_keys, database, older_than=timedelta(days=config.idempotency_retention_days)),
            interval_seconds=PURGE_INTERVAL_SECONDS,
        )
        return cls(
            process=process,
            database=database,
            peers=config.tls_peers,
            environment=environment_of(
                name, type(config), os.environ, migrations=migrations, database=database
            ),
            check_interval_hours=config.check_interval_hours,
        )

    def add_relay(self, relay: Relay) -> None:
        """Deliver the events of the outbox, each topic in a job of its own."""
        for topic in relay.topics:
            job = self.process.background.add(
                f"relay_{topic}", partial(relay.deliver_due, topic), interval_seconds=RELAY_INTERVAL_SECONDS
            )
            relay.at_wake(job.wake)
        self.process.metrics.gauge(
            "relay_events",
            "Events of the outbox by outcome; a parked event needs an operator.",
            lambda: {
                ("delivered",): relay.delivered,
                ("failed",): relay.failed,
                ("parked",): relay.parked,
            },
            ("outcome",),
        )

    def add_diagnostics(
        self,
        *,
        checks: Sequence[Check],
        repairs: Sequence[Repair],
        environment_checks: Sequence[EnvironmentCheck],
        tokens: PageTokens,
        others: Mapping[str, Rows] | None = None,
        at_change: Callable[[], object] = lambda: None,
    ) -> list[Handler]:
        """Run the checks every few hours, and serve them and the repairs to administrators.

        `environment_checks` are those of this service alone; those of every process are added here. `others`
        are rows outside the database that repairs may change, by name; `at_change` is called after a repair
        has changed rows.
        """
        around = served(self.environment, (*ENVIRONMENT_CHECKS, *environment_checks))
        diagnostics = Diagnostics(
            self.database, checks=[*checks, *around], repairs=repairs, others=others, at_change=at_change
        )
        schedule = CheckSchedule(
            self.database,
            diagnostics.checks,
            interval=timedelta(hours=self.check_interval_hours),
            metrics=self.process.metrics,
        )
        background = self.process.background
        background.add("run_checks", schedule.work, interval_seconds=CHECKS_INTERVAL_SECONDS)
        background.add("purge_plans", schedule.purge, interval_seconds=PURGE_PLANS_INTERVAL_SECONDS)
        return diagnostics_servicer.handlers(diagnostics, last_runs=schedule.last_runs, tokens=tokens)

    async def listen(self, handlers: Sequence[Handler]) -> None:
        """Serve the operations pages and the handlers, and begin the background work."""
        process = self.process
        server = Server(
            bind=process.config.bind,
            handlers=handlers,
            service_token=process.token,
            tracing=process.tracing,
            metrics=process.metrics,
            identity=process.identity,
            peers=self.peers,
        )

        async def report_readiness() -> None:
            await server.set_serving(process.health.is_ready(await process.health.results()))

        # Callers ask the gRPC server, load balancers the operations pages: both get the same answer.
        process.background.add(
            "report_readiness", report_readiness, interval_seconds=READINESS_INTERVAL_SECONDS
        )
        await process.serve(server, stop_seconds_max=SERVER_STOP_SECONDS_MAX)


def run_command(
    name: str,
    *,
    purpose: str,
    serve: Callable[[Shutdown], Awaitable[None]],
    migrations: Mapping[str, Path],
    config: type[ServiceConfig] = ServiceConfig,
    checks: Sequence[EnvironmentCheck] = (),
) -> NoReturn:
    """Carry out the command line, `run`, `migrate` or `diagnose`, and end the process.

    `diagnose` needs the class of the configuration, and has the service's own checks of its environment.
    """

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
    parser.add_argument("command", nargs="?", choices=("run", "migrate", "diagnose"), default="run")
    command = parser.parse_args().command
    if command == "diagnose":
        run_diagnosis(name, config, migrations=migrations, checks=checks)
    run(migrate if command == "migrate" else serve, name=name)


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
