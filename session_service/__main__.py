"""`python -m session_service [run|migrate]`: the only place where the parts of the service meet."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import chassis.postgres.migrations
from chassis.rpc.client import Upstream
from chassis.process.config import load
from chassis.telemetry.metrics import Metrics
from chassis.postgres import Database
from chassis.process.lifecycle import Shutdown
from chassis.postgres.relay import Relay
from chassis.process.service import Service, run_command
from session_service.config import Config
from session_service.janitor import Janitor
from session_service.operations.change_sessions import SessionActions
from session_service.operations.create_sessions import SessionStarts
from session_service.operations.manage_tests import CatalogAdministration
from session_service.operations.read_sessions import SessionReads
from session_service.operations.session_changes import SessionChanges
from session_service.progress_client import RESULT_TOPIC, ProgressClient
from session_service.servicer import messages, sessions, tests
from session_service.store.catalog import CatalogStore
from session_service.store.changes import ChangeStore
from session_service.store.editions import EditionCache
from session_service.store.keys import KeyStore
from session_service.store.sessions import SessionStore
from session_service.store.starts import StartStore
from session_service.subscription_client import COMMIT_TOPIC, RELEASE_TOPIC, SubscriptionClient

SERVICE = "session_service"
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}


async def serve(shutdown: Shutdown) -> None:
    """Serve until the end is asked for; refuses a database whose schema is not the one known here."""
    config = load(Config, os.environ)
    service = await Service.begin(SERVICE, config=config, migrations=MIGRATIONS, shutdown=shutdown)

    def upstream(name: str, target: str) -> Upstream:
        made = Upstream(
            name=name,
            target=target,
            service_token=service.token,
            tracing=service.tracing,
            metrics=service.metrics,
        )
        shutdown.closing(name, made.close)
        return made

    to_subscription = upstream("subscription_service", config.subscription_target)
    parts = assemble(
        database=service.database,
        subscription=SubscriptionClient(upstream=to_subscription),
        progress=ProgressClient(upstream=upstream("progress_service", config.progress_target)),
        metrics=service.metrics,
        janitor_interval_seconds=config.janitor_interval_seconds,
        janitor_hold_age_seconds=config.janitor_hold_age_seconds,
        idempotency_retention=timedelta(days=config.idempotency_retention_days),
    )
    # Without it nothing can be started, but what is under way goes on.
    service.health.add("subscription_service", to_subscription.check_health, required=False)
    parts.relay.start()
    shutdown.closing("relay", parts.relay.stop, timeout_seconds=10.0)
    parts.janitor.start()
    shutdown.closing("janitor", parts.janitor.stop, timeout_seconds=10.0)
    await service.listen(parts.servicers)
    await shutdown.wait()


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs in the process: services by their full names, and what works without being asked."""

    servicers: Mapping[str, object]
    relay: Relay
    janitor: Janitor


def assemble(
    *,
    database: Database,
    subscription: SubscriptionClient,
    progress: ProgressClient,
    metrics: Metrics,
    janitor_interval_seconds: float,
    janitor_hold_age_seconds: float,
    idempotency_retention: timedelta,
) -> Parts:
    """Put the parts together on one database; nothing is started yet."""
    relay = Relay(
        database,
        {
            COMMIT_TOPIC: subscription.deliver_commits,
            RELEASE_TOPIC: subscription.deliver_releases,
            RESULT_TOPIC: progress.deliver_results,
        },
    )
    metrics.gauge(
        "relay_events",
        "Events of the outbox since the process began, by what became of them; a parked one needs a human",
        lambda: {("delivered",): relay.delivered, ("failed",): relay.failed, ("parked",): relay.parked},
        ("outcome",),
    )
    editions = EditionCache()
    stored_sessions = SessionStore(database=database, editions=editions)
    changes = SessionChanges(store=ChangeStore(database=database, editions=editions), wake_relay=relay.wake)
    starts = SessionStarts(
        starts=StartStore(database=database, editions=editions),
        subscription=subscription,
        changes=changes,
        render=messages.render_created,
        wake_relay=relay.wake,
    )
    actions = SessionActions(
        changes=changes,
        render_answer=messages.render_answer,
        render_completed=messages.render_completed,
        render_abandoned=messages.render_abandoned,
    )
    reads = SessionReads(sessions=stored_sessions)
    catalog = CatalogAdministration(tests=CatalogStore(database=database))
    janitor = Janitor(
        sessions=stored_sessions,
        keys=KeyStore(database=database),
        changes=changes,
        subscription=subscription,
        metrics=metrics,
        start_method=sessions.CREATE_SESSION,
        interval_seconds=janitor_interval_seconds,
        hold_age_seconds=janitor_hold_age_seconds,
        retention=idempotency_retention,
    )
    return Parts(
        servicers={
            sessions.NAME: sessions.SessionServicer(starts=starts, actions=actions, reads=reads),
            tests.NAME: tests.CatalogServicer(catalog=catalog),
        },
        relay=relay,
        janitor=janitor,
    )


if __name__ == "__main__":
    sys.exit(run_command(SERVICE, purpose="Tests, sessions and answers.", serve=serve, migrations=MIGRATIONS))
