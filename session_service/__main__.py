"""`python -m session_service [run|migrate|diagnose]`: the only place where its parts meet."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import chassis.postgres.migrations
from chassis.postgres import Database
from chassis.postgres.relay import Relay
from chassis.process.background import Background, Run
from chassis.process.config import load
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler
from chassis.telemetry.metrics import Metrics
from session_service.config import Config
from session_service.domain.identity import IdentityRules
from session_service.domain.timing import Retention, TimeRules
from session_service.operations.answer_hashing import OWASP_COST, AnswerHashing, ScryptCost
from session_service.operations.change_sessions import SessionActions
from session_service.operations.check_identity import IdentityChecks
from session_service.operations.create_sessions import SessionStarts
from session_service.operations.diagnosis import SETTLED, STARTED, checks, repairs
from session_service.operations.hold_resolution import HoldResolver
from session_service.operations.manage_tests import CatalogAdministration
from session_service.operations.placing import HoldPlacing
from session_service.operations.purge_records import RecordPurge
from session_service.operations.read_attempts import AttemptReads
from session_service.operations.read_changes import SessionChangeReads
from session_service.operations.read_sessions import SessionReads
from session_service.operations.record_presence import SessionPresence
from session_service.operations.resolve_holds import HoldJanitor, LostStarts
from session_service.operations.session_changes import SessionChanges
from session_service.operations.supervise import Supervision
from session_service.operations.sweep_sessions import SessionSweep
from session_service.operations.upload_operations import Uploads
from session_service.progress_client import RESULT_TOPIC, ProgressClient
from session_service.servicer import attempts, identity, questions, sessions, supervision, tests, uploads
from session_service.servicer import changes as changes_servicer
from session_service.servicer import presence as presence_servicer
from session_service.servicer.session_messages import QuestionContents
from session_service.store.attempts import AttemptStore
from session_service.store.catalog import CatalogStore
from session_service.store.changes import ChangeStore
from session_service.store.editions import EditionCache
from session_service.store.enrollments import EnrollmentStore
from session_service.store.environment import ENVIRONMENT_CHECKS
from session_service.store.holds import HoldStore
from session_service.store.identity import IdentityStore
from session_service.store.presence import PresenceStore
from session_service.store.purges import PurgeStore
from session_service.store.questions import QuestionStore
from session_service.store.results import ResultStore
from session_service.store.session_changes import SessionChangeStore
from session_service.store.session_lists import SessionLists
from session_service.store.sessions import SessionStore
from session_service.store.starts import StartStore
from session_service.store.timelines import TimelineStore
from session_service.subscription_client import COMMIT_TOPIC, RELEASE_TOPIC, SubscriptionClient

SERVICE = "session_service"
MIGRATIONS = {"chassis": chassis.postgres.migrations.FOLDER, SERVICE: Path(__file__).parent / "migrations"}
LOST_STARTS_INTERVAL_SECONDS = 1.0
IDLE_INTERVAL_SECONDS = 300.0
PURGE_INTERVAL_SECONDS = 600.0
CHECKED_CHARACTERS_MAX = 16 * 1024 * 1024


async def serve(shutdown: Shutdown) -> None:
    """Serve until the shutdown is requested; refuses a database whose schema this program does not know."""
    config = load(Config, os.environ)
    service = await Service.begin(SERVICE, config=config, migrations=MIGRATIONS, shutdown=shutdown)
    to_subscription = service.process.upstream("subscription_service", config.subscription_target)
    to_progress = service.process.upstream("progress_service", config.progress_target)
    tokens = PageTokens(secret=service.process.token)
    subscription = SubscriptionClient(upstream=to_subscription)
    progress = ProgressClient(upstream=to_progress)
    parts = assemble(
        database=service.database,
        subscription=subscription,
        progress=progress,
        metrics=service.process.metrics,
        tokens=tokens,
        hold_age_seconds=config.janitor_hold_age_seconds,
        secret=service.process.token,
        identity_rules=IdentityRules(
            answer_seconds=config.identity_answer_seconds,
            interval_seconds=config.identity_interval_seconds,
            failures_per_day_max=config.identity_failures_per_day_max,
        ),
        times=config.times,
        retention=config.retention,
    )
    # Without subscription_service no session can start, but the sessions under way go on.
    service.process.health.add("subscription_service", to_subscription.check_health, required=False)
    service.add_relay(parts.relay)
    add_jobs(
        service.process.background,
        parts,
        hold_interval_seconds=config.janitor_interval_seconds,
        sweep_interval_seconds=config.session_sweep_interval_seconds,
    )
    # Checks go through many tests once, which would drive those of the learners out of their cache.
    editions = EditionCache(characters_max=CHECKED_CHARACTERS_MAX)
    diagnosing = service.add_diagnostics(
        checks=checks(
            service.database,
            editions=editions,
            subscription=subscription,
            progress=progress,
            times=config.times,
            retention=config.retention,
            settled=max(SETTLED, 2 * timedelta(seconds=config.session_sweep_interval_seconds)),
            started=max(
                STARTED,
                timedelta(seconds=config.janitor_hold_age_seconds + 2 * config.janitor_interval_seconds),
            ),
        ),
        repairs=repairs(editions=editions, times=config.times, retention=config.retention),
        environment_checks=ENVIRONMENT_CHECKS,
        tokens=tokens,
        at_change=parts.relay.wake,
    )
    await service.listen([*parts.handlers, *diagnosing])
    await shutdown.wait()


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the process: what it serves, and its background work."""

    handlers: Sequence[Handler]
    relay: Relay
    sweep: SessionSweep
    janitor: HoldJanitor
    lost: LostStarts
    purge: RecordPurge


def assemble(
    *,
    database: Database,
    subscription: SubscriptionClient,
    progress: ProgressClient,
    metrics: Metrics,
    tokens: PageTokens,
    hold_age_seconds: float,
    secret: str,
    times: TimeRules,
    retention: Retention,
    identity_rules: IdentityRules,
    hash_cost: ScryptCost = OWASP_COST,
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
    editions = EditionCache()
    stored_sessions = SessionStore(database=database, editions=editions, grace=times.grace)
    stored_holds = HoldStore(database=database)
    changes = SessionChanges(
        store=ChangeStore(database=database, editions=editions),
        subscription=subscription,
        times=times,
        wake_relay=relay.wake,
    )
    resolver = HoldResolver(holds=stored_holds, subscription=subscription, metrics=metrics)
    presence = SessionPresence(presence=PresenceStore(database=database, times=times))
    lost = LostStarts(resolver=resolver)
    starts = SessionStarts(
        starts=StartStore(database=database, editions=editions, grace=times.grace),
        identity_rules=identity_rules,
        placing=HoldPlacing(holds=stored_holds, lost=lost, subscription=subscription),
        subscription=subscription,
        changes=changes,
        lost=lost,
        presence=presence,
        times=times,
        wake_relay=relay.wake,
    )
    reads = SessionReads(sessions=stored_sessions)
    contents = QuestionContents(reads.get_contents)
    stored_tests = CatalogStore(database=database)
    stored_identity = IdentityStore(database=database, editions=editions)
    lists = SessionLists(database=database, editions=editions, grace=times.grace)
    return Parts(
        handlers=[
            *sessions.handlers(
                starts=starts,
                actions=SessionActions(changes=changes),
                reads=reads,
                list_sessions=lists.list_sessions,
                contents=contents,
                tokens=tokens,
            ),
            *presence_servicer.handlers(presence=presence),
            *tests.handlers(
                catalog=CatalogAdministration(tests=stored_tests),
                list_tests=stored_tests.list_tests,
                tokens=tokens,
            ),
            *questions.handlers(
                list_questions=QuestionStore(database=database).list_questions, tokens=tokens
            ),
            *identity.handlers(
                checks=IdentityChecks(
                    store=stored_identity,
                    enrollments=EnrollmentStore(database=database, grace=times.grace),
                    hashing=AnswerHashing(cost=hash_cost),
                    rules=identity_rules,
                    grace=times.grace,
                    secret=secret,
                ),
                list_events=stored_identity.list_events,
                tokens=tokens,
            ),
            *attempts.handlers(
                reads=AttemptReads(attempts=AttemptStore(database=database)),
                list_attempts=lists.list_attempts,
                tokens=tokens,
            ),
            *uploads.handlers(
                uploads=Uploads(
                    reads=reads, changes=changes, presence=presence, stored=uploads.STORED_ANSWERS
                )
            ),
            *changes_servicer.handlers(
                reads=SessionChangeReads(store=SessionChangeStore(database=database, grace=times.grace))
            ),
            *supervision.handlers(
                supervision=Supervision(
                    timelines=TimelineStore(database=database),
                    results=ResultStore(database=database),
                    changes=changes,
                ),
                list_sessions=lists.list_sessions,
                contents=contents,
                tokens=tokens,
            ),
        ],
        relay=relay,
        sweep=SessionSweep(sessions=stored_sessions, changes=changes, times=times, metrics=metrics),
        janitor=HoldJanitor(
            holds=stored_holds,
            resolver=resolver,
            subscription=subscription,
            method=sessions.CREATE_SESSION,
            hold_age_seconds=hold_age_seconds,
        ),
        lost=lost,
        purge=RecordPurge(purges=PurgeStore(database=database), retention=retention, metrics=metrics),
    )


def add_jobs(
    background: Background, parts: Parts, *, hold_interval_seconds: float, sweep_interval_seconds: float
) -> None:
    """Add the service's own background work."""
    add = background.add
    add("close_overdue_sessions", _job(parts.sweep.close_overdue), interval_seconds=sweep_interval_seconds)
    add("close_unused_sessions", _job(parts.sweep.close_unused), interval_seconds=sweep_interval_seconds)
    add("close_idle_sessions", _job(parts.sweep.close_idle), interval_seconds=IDLE_INTERVAL_SECONDS)
    add("resolve_holds", parts.janitor.resolve_holds, interval_seconds=hold_interval_seconds)
    add("purge_records", parts.purge.purge, interval_seconds=PURGE_INTERVAL_SECONDS)
    add("resolve_lost_starts", parts.lost.resolve_due, interval_seconds=LOST_STARTS_INTERVAL_SECONDS)


def _job(step: Callable[[], Awaitable[object]]) -> Run:
    """A job whose rounds come at the usual interval."""

    async def run() -> None:
        await step()

    return run


if __name__ == "__main__":
    sys.exit(
        run_command(
            SERVICE,
            purpose="Tests, sessions and answers.",
            serve=serve,
            migrations=MIGRATIONS,
            config=Config,
            checks=ENVIRONMENT_CHECKS,
        )
    )
