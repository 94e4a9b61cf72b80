"""The columns of `sessions` and `answers`, spelled once, and their rows as domain objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import asyncpg
import orjson

from session_service.domain.ids import HoldId, SessionId
from session_service.domain.sessions import CloseReason, Session
from session_service.domain.states import LIVE_STATES, SessionState
from session_service.domain.tests import Kind

# The names of the dataclasses' fields (a test compares them), and the types of the table.
SESSION_TYPES: Mapping[str, str] = {
    "user_id": "text",
    "session_id": "uuid",
    "hold_id": "uuid",
    "test_id": "text",
    "revision": "integer",
    "attempt": "integer",
    "state": "text",
    "title": "text",
    "kind": "text",
    "difficulty": "text",
    "metadata": "jsonb",
    "total": "integer",
    "started_at": "timestamptz",
    "deadline_at": "timestamptz",
    "answered": "integer",
    "solved": "integer",
    "answers_given": "integer",
    "answers_correct": "integer",
    "version": "integer",
    "last_answer_at": "timestamptz",
    "submitted_at": "timestamptz",
    "closed_at": "timestamptz",
    "close_reason": "text",
    "score": "double precision",
    "passed": "boolean",
}
ANSWER_TYPES: Mapping[str, str] = {
    "user_id": "text",
    "session_id": "uuid",
    "question_id": "text",
    "attempt": "integer",
    "choice": "text",
    "correct": "boolean",
    "occurred_at": "timestamptz",
    "answered_at": "timestamptz",
}
# What answers and endings change; the rest of a session stays as it began.
CHANGED_COLUMNS = (
    "state", "answered", "solved", "answers_given", "answers_correct", "version", "last_answer_at",
    "submitted_at", "closed_at", "close_reason", "score", "passed",
)  # fmt: skip


def listed(columns: Collection[str], table: str = "") -> str:
    """Columns as a statement names them, of one table if it is given."""
    prefix = f"{table}." if table else ""
    return ", ".join(prefix + column for column in columns)


def recordset(types: Mapping[str, str], columns: Collection[str] = ()) -> str:
    """The column definitions with which `json_to_recordset` takes rows apart: all columns, or these."""
    return ", ".join(f"{column} {types[column]}" for column in columns or types)


SESSION_COLUMNS = listed(SESSION_TYPES)
LIVE = "state IN ({})".format(", ".join(f"'{state}'" for state in sorted(LIVE_STATES)))
"""The condition of the partial indexes on live sessions."""


def session_from(row: asyncpg.Record) -> Session:
    """A session from a row that has all columns of `sessions`, under their own names."""
    reason = row["close_reason"]
    return Session(
        user_id=row["user_id"],
        session_id=SessionId(row["session_id"]),
        hold_id=HoldId(row["hold_id"]),
        test_id=row["test_id"],
        revision=row["revision"],
        attempt=row["attempt"],
        state=SessionState(row["state"]),
        title=row["title"],
        kind=Kind(row["kind"]),
        difficulty=row["difficulty"],
        metadata=_metadata_from(row["metadata"]),
        total=row["total"],
        answered=row["answered"],
        solved=row["solved"],
        answers_given=row["answers_given"],
        answers_correct=row["answers_correct"],
        version=row["version"],
        started_at=row["started_at"],
        deadline_at=row["deadline_at"],
        last_answer_at=row["last_answer_at"],
        submitted_at=row["submitted_at"],
        closed_at=row["closed_at"],
        close_reason=None if reason is None else CloseReason(reason),
        score=row["score"],
        passed=row["passed"],
    )


def _metadata_from(text: str) -> Mapping[str, str]:
    metadata: Any = {} if text == "{}" else orjson.loads(text)
    return dict(metadata)
