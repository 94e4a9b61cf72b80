"""Identity checks: when one is due, what an answer to it does, and when a session is locked.

The moments of checks are in seconds of the session's own time, which stands still while it is paused. So
nothing has to be recomputed when a session is resumed.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from chassis.errors import Reason, ServiceError
from session_service.domain.ids import SessionId
from session_service.domain.sessions import Session
from session_service.domain.tests import Definition

QUESTIONS_MAX = 10
TRIES_MAX = 3


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """How long a check waits for its answer, how far apart checks are, how often a learner may be wrong."""

    answer_seconds: float = 120.0
    interval_seconds: float = 600.0
    failures_per_day_max: int = 12


class IdentityEventKind(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    LAPSED = "lapsed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """What happened to a check, as it is kept: the `step`-th thing that happened to it."""

    user_id: str
    session_id: SessionId
    check_number: int
    step: int
    kind: IdentityEventKind
    by_user: str
    reason: str
    request_id: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class HashedAnswer:
    """A salted hash of an answer. `cost` has the parameters that made it."""

    salt: bytes
    digest: bytes
    cost: str


@dataclass(frozen=True, slots=True)
class IdentityQuestion:
    """What a learner is asked, and the hash of the normalized answer."""

    prompt: str
    answer: HashedAnswer


@dataclass(frozen=True, slots=True)
class Enrollment:
    """A learner's questions, in their order."""

    user_id: str
    version: int
    enrolled_at: datetime
    questions: Sequence[IdentityQuestion]


class CheckTimes(NamedTuple):
    """When a check is due, and when it lapses, in seconds of the session's own time."""

    due_seconds: float
    lapse_seconds: float


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """How far the checks of a session have come: how many were passed, which one is next, and its steps."""

    passed: int
    check_number: int
    steps: int

    @property
    def tries_left(self) -> int:
        return TRIES_MAX - self.steps


class CheckName(NamedTuple):
    """Names the question that a check asks: an answer to it cannot count for another question."""

    check_number: int
    version: int
    position: int


def normalized_answer(text: str) -> str:
    """An answer as it is compared: NFKC, without white space around it, with single spaces, case-folded."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def next_check(
    definition: Definition,
    rules: IdentityRules,
    *,
    passed: int = 0,
    after_seconds: float = 0.0,
    chance: float,
) -> CheckTimes | None:
    """When the next check comes; None when the session asks no more.

    The horizon is cut into as many equal parts as the session asks checks, and each part has one check.

    Args:
        definition: how many checks the session asks.
        rules: how long a check waits for its answer.
        passed: how many checks were passed.
        after_seconds: the check does not come earlier than this.
        chance: where in its part of the horizon the check comes: at random, from 0 up to 1.
    """
    total = definition.identity_checks or 0
    if passed >= total:
        return None
    due = max((passed + chance) * horizon_seconds(definition, rules) / total, after_seconds)
    return CheckTimes(due, due + rules.answer_seconds)


def check_after_release(
    definition: Definition, rules: IdentityRules, *, after_seconds: float, chance: float
) -> CheckTimes:
    """When the check comes that takes the place of the one that locked the session."""
    part = horizon_seconds(definition, rules) / (definition.identity_checks or 1)
    due = after_seconds + chance * part
    return CheckTimes(due, due + rules.answer_seconds)


def horizon_seconds(definition: Definition, rules: IdentityRules) -> float:
    """The time in which all checks come: a session that needs engaged time cannot end before them."""
    bounds = [
        (definition.identity_checks or 0) * rules.interval_seconds,
        definition.min_engaged_seconds or None,
        definition.time_limit_seconds,
    ]
    return min(bound for bound in bounds if bound is not None)


def session_seconds(session: Session, now: datetime) -> float:
    """The session's own time: since its start, without its pauses."""
    if session.paused_at is not None and session.pause_until is not None:
        now -= min(max(now, session.paused_at), session.pause_until) - session.paused_at
    return (now - session.started_at).total_seconds() - session.paused_seconds


def identity_locked(session: Session, now: datetime) -> bool:
    """Whether the session waits for an administrator. A check that has lapsed locks it, noticed or not."""
    if session.identity_locked_at is not None:
        return True
    lapse = session.identity_lapse_seconds
    return lapse is not None and session_seconds(session, now) >= lapse


def check_due(session: Session, now: datetime) -> bool:
    """Whether a check waits for its answer, and the session is not locked."""
    due = session.identity_due_seconds
    return due is not None and session_seconds(session, now) >= due and not identity_locked(session, now)


def identity_shown(session: Session, at: datetime) -> bool:
    """Whether no check was due at that moment, and the session was not locked."""
    return not identity_locked(session, at) and not check_due(session, at)


def require_identity(session: Session, now: datetime) -> None:
    """Raise ServiceError with IDENTITY_LOCKED when the session is locked: for answers."""
    if session.identity_lapse_seconds is not None and identity_locked(session, now):
        raise ServiceError(
            Reason.IDENTITY_LOCKED,
            "An identity check was not passed; an administrator can release the session",
            metadata={"state": "LOCKED"},
        )


def require_no_check_due(session: Session, now: datetime) -> None:
    """Raise ServiceError with IDENTITY_LOCKED when the session is locked, or a check is due.

    For completing and pausing: neither of them may evade the check.
    """
    require_identity(session, now)
    if check_due(session, now):
        raise ServiceError(
            Reason.IDENTITY_LOCKED,
            "Answer the identity check that is due first",
            metadata={"state": "CHECK_DUE"},
        )


def not_enrolled(definition: Definition) -> ServiceError:
    """The refusal to start a test with checks, for a learner who has no questions."""
    return ServiceError(
        Reason.IDENTITY_LOCKED,
        "This test checks the identity: enroll questions with PUT /v1/identity/questions first",
        metadata={"state": "NOT_ENROLLED", "identityChecks": definition.identity_checks},
    )


def answer_by(session: Session, now: datetime) -> datetime:
    """When the check that is due lapses, if the session is not paused."""
    lapse = session.identity_lapse_seconds
    if lapse is None:
        raise ValueError("no check is due")
    return now + timedelta(seconds=lapse - session_seconds(session, now))


def progress_of(events: Sequence[IdentityEvent]) -> CheckProgress:
    """How far the checks have come, from all events of a session in their order."""
    passed = sum(event.kind is IdentityEventKind.PASSED for event in events)
    if not events:
        return CheckProgress(passed, 1, 0)
    last = events[-1]
    if last.kind in {IdentityEventKind.PASSED, IdentityEventKind.RELEASED}:
        return CheckProgress(passed, last.check_number + 1, 0)
    return CheckProgress(passed, last.check_number, last.step)


def question_position(session: Session, check_number: int, questions: int) -> int:
    """Which of the learner's questions a check asks. The random moment of the check decides."""
    seed = f"{session.session_id}\n{check_number}\n{session.identity_due_seconds!r}"
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest()) % questions


def with_check(session: Session, times: CheckTimes | None) -> Session:
    """The session with its next check, unlocked; without one if there is none."""
    due, lapse = (None, None) if times is None else times
    return replace(session, identity_due_seconds=due, identity_lapse_seconds=lapse, identity_locked_at=None)
