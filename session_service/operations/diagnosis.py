"""The checks of session_service, and the repairs that mend what they find."""

from __future__ import annotations

from datetime import timedelta

from chassis.diagnostics.checks import Check
from chassis.diagnostics.constraints import constraint_check
from chassis.diagnostics.findings import Severity
from chassis.diagnostics.outbox import outbox_checks, outbox_repairs
from chassis.diagnostics.repairs import Repair, planned_by
from chassis.postgres import Database
from session_service.domain.timing import Retention, TimeRules
from session_service.operations.event_repairs import EventRepairs
from session_service.operations.history_repairs import HistoryRepairs
from session_service.operations.neighbour_walks import (
    LostSessionWalk,
    OpenHoldWalk,
    ResultWalk,
    UnpaidSessionWalk,
)
from session_service.operations.session_repairs import SessionRepairs
from session_service.operations.session_walks import CREATE_SESSION, GhostWalk, KeyWalk, VerdictWalk
from session_service.progress_client import ProgressClient
from session_service.store import checks_sessions
from session_service.store.checks_keys import RecentStartsWalk
from session_service.store.editions import EditionCache
from session_service.subscription_client import SubscriptionClient

SHORT_NAME = "session"
TABLES = (
    "sessions",
    "answers",
    "session_events",
    "identity_events",
    "identity_enrollments",
    "identity_questions",
    "postponed_holds",
    "tests",
    "test_revisions",
    "questions",
)
"""The tables whose constraints are verified."""
# The sweeps come every few minutes, and the relay tries each minute; after a restart both need a while.
SETTLED = timedelta(minutes=15)
"""For how long sweeps and deliveries may be under way."""
# No start takes as long: its deadline is a minute, and the janitor resolves soon what it leaves behind.
STARTED = timedelta(minutes=10)
"""For how long a start may be under way."""


def checks(
    database: Database,
    *,
    editions: EditionCache,
    subscription: SubscriptionClient,
    progress: ProgressClient,
    times: TimeRules,
    retention: Retention,
    settled: timedelta = SETTLED,
    started: timedelta = STARTED,
) -> list[Check]:
    """All checks of the service.

    Args:
        database: the store of the service.
        editions: what the sessions ask.
        subscription: knows the holds.
        progress: knows the recorded results.
        times: when time ends a session.
        retention: how long answers are kept.
        settled: for how long sweeps and deliveries may be under way.
        started: for how long a start may be under way.
    """
    return [
        *_of_sessions(database, editions=editions, times=times, settled=settled),
        *_of_history(database, editions=editions, retention=retention.answers),
        *_of_keys(database),
        *_of_neighbours(
            database,
            editions=editions,
            subscription=subscription,
            progress=progress,
            settled=settled,
            started=started,
        ),
        *outbox_checks(database, SHORT_NAME),
        constraint_check(database, SHORT_NAME, dict.fromkeys(TABLES, ())),
    ]


def _of_sessions(
    database: Database, *, editions: EditionCache, times: TimeRules, settled: timedelta
) -> list[Check]:
    return [
        Check(
            check_id="session.ghost",
            severity=Severity.HIGH,
            meaning="A session that is long over still looks alive, and holds a unit of the learner's day.",
            age=settled,
            repairs=("session.close_ghosts",),
            walk=GhostWalk(database, editions=editions, times=times),
        ),
        Check(
            check_id="session.without_end",
            severity=Severity.HIGH,
            meaning="The learner's session has ended without a time or a reason, or has an end and is alive.",
            repairs=("session.complete_end",),
            walk=checks_sessions.without_end_marks(database),
        ),
        Check(
            check_id="session.without_questions",
            severity=Severity.CRITICAL,
            meaning="The learner's session does not have the questions that it began with.",
            repairs=("session.rebuild_from_history",),
            advice="A revision or a question that is gone must come back from a backup.",
            walk=checks_sessions.without_questions(database),
        ),
        Check(
            check_id="session.attempt_gap",
            severity=Severity.MEDIUM,
            meaning="The numbers of the learner's attempts at a test leave one out, or have one twice.",
            repairs=("session.renumber_attempts",),
            walk=checks_sessions.attempt_gaps(database),
        ),
    ]


def _of_history(database: Database, *, editions: EditionCache, retention: timedelta) -> list[Check]:
    return [
        Check(
            check_id="session.counters",
            severity=Severity.HIGH,
            meaning="The learner sees other counts or another score than their answers make.",
            repairs=("session.rebuild_from_history",),
            walk=checks_sessions.wrong_counters(database, retention),
        ),
        Check(
            check_id="session.verdict",
            severity=Severity.HIGH,
            meaning="An answer of the learner is judged otherwise than by the questions that they saw.",
            repairs=("session.rebuild_from_history",),
            walk=VerdictWalk(database, editions=editions),
        ),
        Check(
            check_id="session.late_answer",
            severity=Severity.MEDIUM,
            meaning="An answer was taken after the learner's session had ended.",
            repairs=("session.remove_late_answers",),
            walk=checks_sessions.late_answers(database),
        ),
        Check(
            check_id="session.answer_gap",
            severity=Severity.LOW,
            meaning="The learner's answers to a question are not numbered without gaps.",
            repairs=("session.renumber_answers",),
            walk=checks_sessions.answer_gaps(database, retention),
        ),
        *(
            Check(
                check_id=check_id,
                severity=Severity.LOW,
                meaning=f"{what} of the learner is kept for a session that does not exist.",
                repairs=("session.remove_orphans",),
                walk=checks_sessions.orphaned(database, table, key),
            )
            for check_id, what, table, key in (
                ("session.orphaned_answer", "An answer", "answers", checks_sessions.ANSWER_KEY),
                (
                    "session.orphaned_event",
                    "An entry of a timeline",
                    "session_events",
                    "user_id text, session_id uuid, version integer, number integer",
                ),
                (
                    "session.orphaned_identity_event",
                    "A try of an identity check",
                    "identity_events",
                    "user_id text, session_id uuid, check_number integer, step integer",
                ),
            )
        ),
    ]


def _of_keys(database: Database) -> list[Check]:
    return [
        Check(
            check_id="session.key_without_session",
            severity=Severity.CRITICAL,
            meaning="The learner's app is told of a session that does not exist, each time it asks again.",
            repairs=("session.remove_orphans",),
            walk=KeyWalk(database),
        ),
        Check(
            check_id="session.aborted_starts",
            severity=Severity.INFO,
            meaning="Many starts of the last hour were aborted, so learners had to start again.",
            advice="Look for restarts and slow calls of subscription_service in this hour.",
            walk=RecentStartsWalk(database, method=CREATE_SESSION, of_learners=False),
        ),
        Check(
            check_id="session.start_pattern",
            severity=Severity.INFO,
            meaning="The learner has started very often in the last hour, or was aborted very often.",
            advice="Look at the learner's client: a loop, a script, or a connection that breaks.",
            walk=RecentStartsWalk(database, method=CREATE_SESSION, of_learners=True),
        ),
    ]


def _of_neighbours(
    database: Database,
    *,
    editions: EditionCache,
    subscription: SubscriptionClient,
    progress: ProgressClient,
    settled: timedelta,
    started: timedelta,
) -> list[Check]:
    return [
        Check(
            check_id="session.open_hold",
            severity=Severity.HIGH,
            meaning="A unit of the learner's day is held for a session that has ended, or never began.",
            age=started,
            repairs=("session.resolve_hold",),
            walk=OpenHoldWalk(database, subscription=subscription, method=CREATE_SESSION),
        ),
        Check(
            check_id="session.without_hold",
            severity=Severity.HIGH,
            meaning="The learner's session is under way, and no unit is held for it.",
            age=started,
            repairs=("session.close_without_hold",),
            walk=UnpaidSessionWalk(database, subscription=subscription),
        ),
        Check(
            check_id="session.result_missing",
            severity=Severity.CRITICAL,
            meaning="The learner's result is not counted in their statistics.",
            age=settled,
            repairs=("session.send_result",),
            walk=ResultWalk(database, editions=editions, progress=progress, missing=True),
        ),
        Check(
            check_id="session.result_differs",
            severity=Severity.HIGH,
            meaning="The learner's statistics count another result than their session shows.",
            age=settled,
            advice="Repair the session first; see docs/diagnosis/session.md for what was counted.",
            walk=ResultWalk(database, editions=editions, progress=progress, missing=False),
        ),
        Check(
            check_id="session.result_without_session",
            severity=Severity.CRITICAL,
            meaning="The learner's result is counted, and the session that it came from is lost.",
            advice="This database is older than that of progress_service: see docs/diagnosis/session.md.",
            walk=LostSessionWalk(database, progress=progress),
        ),
    ]


def repairs(*, editions: EditionCache, times: TimeRules, retention: Retention) -> list[Repair]:
    """All repairs of the service.

    Args:
        editions: what the sessions ask.
        times: when time ends a session.
        retention: how long answers are kept.
    """
    ends = SessionRepairs(editions=editions, times=times)
    history = HistoryRepairs(editions=editions, retention=retention.answers)
    events = EventRepairs(editions=editions)
    ended = ("sessions", "session_events", "outbox")
    return [
        Repair(
            repair_id="session.close_ghosts",
            meaning="Ends sessions as time should have: with their result, or with the unit given back.",
            tables=ended,
            plan=ends.close_ghosts,
        ),
        Repair(
            repair_id="session.close_without_hold",
            meaning="Ends sessions without a hold that nobody has answered.",
            tables=ended,
            plan=ends.close_unpaid,
        ),
        Repair(
            repair_id="session.complete_answered",
            meaning="Hands in the answered sessions that a learner has left without doing so.",
            tables=ended,
            plan=ends.complete_answered,
            needs_check=False,
        ),
        Repair(
            repair_id="session.complete_end",
            meaning="Gives sessions the end that their timeline tells.",
            tables=("sessions",),
            plan=planned_by(checks_sessions.END_FROM_TIMELINE),
        ),
        Repair(
            repair_id="session.rebuild_from_history",
            meaning="Judges the answers again by what the session showed, and counts them again.",
            tables=("sessions", "answers"),
            plan=history.rebuild,
        ),
        Repair(
            repair_id="session.remove_late_answers",
            meaning="Removes answers from after the end, into the journal, and counts the others again.",
            tables=("sessions", "answers"),
            plan=history.remove_late,
        ),
        Repair(
            repair_id="session.renumber_answers",
            meaning="Numbers the answers to a question from 1, in their order.",
            tables=("answers",),
            plan=history.renumber_answers,
        ),
        Repair(
            repair_id="session.renumber_attempts",
            meaning="Numbers a learner's sessions of a test from 1, in their order.",
            tables=("sessions",),
            plan=planned_by(checks_sessions.RENUMBERED),
        ),
        Repair(
            repair_id="session.remove_orphans",
            meaning="Removes rows that name a session which does not exist; the journal keeps them.",
            tables=("answers", "session_events", "identity_events", "idempotency_keys"),
            plan=planned_by(checks_sessions.REMOVED_ORPHANS),
        ),
        Repair(
            repair_id="session.resolve_hold",
            meaning="Commits or releases a hold as the janitor would; the key of a lost start is aborted.",
            tables=("outbox", "idempotency_keys"),
            plan=events.resolve_holds,
        ),
        Repair(
            repair_id="session.send_result",
            meaning="Sends a result again; progress_service counts it once.",
            tables=("outbox",),
            plan=events.send_results,
        ),
        *outbox_repairs(SHORT_NAME),
    ]
