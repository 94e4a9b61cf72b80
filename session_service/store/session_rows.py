"""The columns of `sessions` and `answers`, spelled once, and their rows as domain objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg
import orjson

from chassis.postgres.rows import RowType, from_row, names
from session_service.domain.sessions import CloseReason, Session
from session_service.domain.states import CLOSED_STATES, LIVE_STATES, SessionState
from session_service.domain.tests import Kind

SESSION = """
    user_id text, session_id uuid, hold_id uuid, test_id text, revision integer, attempt integer, state text,
    title text, kind text, difficulty text, metadata jsonb, total integer, started_at timestamptz,
    deadline_at timestamptz, answered integer, solved integer, answers_given integer, answers_correct integer,
    version integer, last_answer_at timestamptz, submitted_at timestamptz, closed_at timestamptz,
    close_reason text, score double precision, passed boolean, paused_at timestamptz, pause_until timestamptz,
    paused_seconds double precision, engaged_seconds double precision, seed bigint, drawn smallint[],
    identity_due_seconds double precision, identity_lapse_seconds double precision,
    identity_locked_at timestamptz, attempts_before integer, start_request_id text, start_trace_id text,
    heartbeat_seq integer, seen_at timestamptz, left_at timestamptz, lease_check_at timestamptz
"""
SESSION_COLUMNS = names(SESSION)
# The columns of a new session. The others begin with their defaults: each column costs time in every start.
STARTED = RowType(
    "started_session",
    """
    user_id text, session_id uuid, hold_id uuid, test_id text, revision integer, attempt integer, state text,
    title text, kind text, difficulty text, metadata jsonb, total integer, started_at timestamptz,
    deadline_at timestamptz, seed bigint, drawn smallint[], identity_due_seconds double precision,
    identity_lapse_seconds double precision, attempts_before integer, start_request_id text,
    start_trace_id text
    """,
)
# What answers and endings change, behind the key; the rest of a session stays as it began.
CHANGED = RowType(
    "changed_session",
    """
    user_id text, session_id uuid, state text, deadline_at timestamptz, answered integer, solved integer,
    answers_given integer, answers_correct integer, version integer, last_answer_at timestamptz,
    submitted_at timestamptz, closed_at timestamptz, close_reason text, score double precision,
    passed boolean, paused_at timestamptz, pause_until timestamptz, paused_seconds double precision,
    seen_at timestamptz, lease_check_at timestamptz
    """,
)
CHANGED_COLUMNS = names(CHANGED.columns).split(", ")[2:]
ANSWER = RowType(
    "given_answer",
    """
    user_id text, session_id uuid, question_id text, attempt integer, choice text, correct boolean,
    occurred_at timestamptz, answered_at timestamptz, occurred_at_clamped boolean, version integer,
    request_id text, trace_id text
    """,
)
USES_ATTEMPT = "(answered > 0 OR (total = 0 AND state = 'completed'))"
"""Whether a row of `sessions` uses an attempt: `uses_attempt` of the domain, in SQL."""
LIVE = "state IN ({})".format(", ".join(f"'{state}'" for state in sorted(LIVE_STATES)))
"""The condition of the partial indexes on live sessions."""
ENDED = "state IN ({})".format(", ".join(f"'{state}'" for state in sorted(CLOSED_STATES)))
"""The condition of the partial indexes on ended sessions."""

# Looked up in every answer: an enum's own look-up takes ten times as long.
_STATES = {state.value: state for state in SessionState}
_KINDS = {kind.value: kind for kind in Kind}

# What the reasons were called before migration 011. Closed sessions keep these words (nothing is rewritten),
# and a previous version that still runs may write them after the migration.
_EARLIER_REASONS = {
    "abandoned": CloseReason.LEARNER_LEFT,
    "deadline": CloseReason.TIMED_OUT,
    "idle": CloseReason.LEASE_LOST,
}


def session_from(row: asyncpg.Record) -> Session:
    """A session from a row that has all columns of `sessions`, under their own names."""
    reason = row["close_reason"]
    return from_row(
        Session,
        row,
        state=_STATES[row["state"]],
        kind=_KINDS[row["kind"]],
        metadata=_metadata_from(row["metadata"]),
        drawn=None if row["drawn"] is None else tuple(row["drawn"]),
        close_reason=None if reason is None else close_reason_from(reason),
    )


def close_reason_from(text: str) -> CloseReason:
    """A close reason as it is called now."""
    return _EARLIER_REASONS.get(text) or CloseReason(text)


def _metadata_from(text: str) -> Mapping[str, str]:
    metadata: Any = {} if text == "{}" else orjson.loads(text)
    return dict(metadata)
