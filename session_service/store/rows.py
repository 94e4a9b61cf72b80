"""Rows become domain objects at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg
import orjson

from chassis.postgres.idempotency import KeyState, StoredResponse
from session_service.domain.ids import HoldId, SessionId
from session_service.domain.sessions import CloseReason, Session
from session_service.domain.states import SessionState
from session_service.domain.tests import Definition, Kind, Question


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
        metadata=metadata_from(row["metadata"]),
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


def definition_from(row: asyncpg.Record) -> Definition:
    """A definition from a row that has the defining columns of `test_revisions`."""
    return Definition(
        title=row["title"],
        kind=Kind(row["kind"]),
        difficulty=row["difficulty"],
        question_count=row["question_count"],
        time_limit_seconds=row["time_limit_seconds"],
        max_attempts=row["max_attempts"],
        credit_cost=row["credit_cost"],
        counts_toward_daily_limit=row["counts_toward_daily_limit"],
        pass_score=row["pass_score"],
        specialization=row["specialization"],
        xp=row["xp"],
        min_engaged_seconds=row["min_engaged_seconds"],
        identity_checks=row["identity_checks"],
    )


def question_from(row: asyncpg.Record) -> Question:
    """A question from a row of `questions`."""
    return Question(
        question_id=row["question_id"],
        prompt=row["prompt"],
        choices=tuple(row["choices"]),
        accepted=tuple(row["accepted"]),
        difficulty=row["difficulty"],
        subject=row["subject"],
    )


def stored_from(row: asyncpg.Record) -> StoredResponse | None:
    """What a key has stored, from columns named stored_*; None when nobody has used it."""
    state = row["stored_state"]
    if state is None:
        return None
    return StoredResponse(
        fingerprint=row["stored_fingerprint"] or b"",
        state=KeyState(state),
        response=row["stored_response"] or b"",
        traceparent=row["stored_traceparent"],
    )


def metadata_from(text: str) -> Mapping[str, str]:
    metadata: Any = {} if text == "{}" else orjson.loads(text)
    return dict(metadata)


def metadata_text(metadata: Mapping[str, str]) -> str:
    return orjson.dumps(metadata).decode() if metadata else "{}"
