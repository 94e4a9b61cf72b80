"""A learner's session: how it starts, takes answers and ends, and what its end costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from chassis.errors import Reason, ServiceError
from chassis.frozen import quick, replaced
from session_service.domain.authors import Author
from session_service.domain.holds import HoldName
from session_service.domain.ids import HoldId, SessionId
from session_service.domain.papers import Draw
from session_service.domain.states import LIVE_STATES, SessionState
from session_service.domain.tests import Definition, Edition, Kind


class CloseReason(StrEnum):
    """Why a session has ended."""

    SUBMITTED = "submitted"
    TIMED_OUT = "timed_out"
    LEARNER_LEFT = "learner_left"
    LEASE_LOST = "lease_lost"
    NEVER_USED = "never_used"
    REPLACED = "replaced"
    ADMINISTRATOR = "administrator"


@quick
@dataclass(frozen=True, slots=True)
class StartRequest:
    """What a learner wants to start. The duration shortens the test's time limit and never lengthens it."""

    test_id: str
    title: str | None
    difficulty: str | None
    duration_minutes: int | None
    metadata: Mapping[str, str]


@quick
@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """What a learner chose or typed; `occurred_at` is by their own clock."""

    session_id: SessionId
    question_id: str
    choice: str
    occurred_at: datetime | None


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """A session that its learner ends."""

    session_id: SessionId
    question_id: str = ""
    expected_version: int | None = None
    """The version that the learner has seen; None for any."""


@dataclass(frozen=True, slots=True)
class AdministratorClose:
    """A session of a learner that somebody else ends, and why."""

    learner_id: str
    session_id: SessionId
    reason: str
    question_id: str = ""


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Which sessions of a learner to list; None does not restrict."""

    user_id: str
    state: SessionState | None
    test_id: str | None


class SessionRequest(Protocol):
    """What names a session; `question_id` is empty when the request is about no question."""

    @property
    def session_id(self) -> SessionId: ...

    @property
    def question_id(self) -> str: ...


class SessionKey(NamedTuple):
    user_id: str
    session_id: SessionId


def session_of(request: SessionRequest, caller_id: str) -> SessionKey:
    """The session that a request is about: the caller's own, unless the request names another learner."""
    learner_id = request.learner_id if isinstance(request, AdministratorClose) else caller_id
    return SessionKey(learner_id, request.session_id)


@quick
@dataclass(frozen=True, slots=True)
class Session:
    """One attempt of one learner at one test.

    `answered` counts distinct questions, `solved` those whose latest answer is right; `answers_given` and
    `answers_correct` count every answer, repeats included. `paused_seconds` are those of the pauses that have
    ended. While a session is paused, its `deadline_at` is the one that it has if the pause lasts until
    `pause_until`, when the budget is used up. `seed` and `drawn` are what its start has drawn; see `Draw`.
    `seen_at` is the last sign of life besides the answers: a heartbeat, a return, or the end of a pause.
    `left_at` is when a page said that it is being closed.
    `lease_check_at` is when to look whether the lease is lost; see `lease_end`.

    `attempt` counts all sessions of this learner and test. `attempts_before` counts those before this one
    that have used an attempt; it is None in rows of an earlier release, as are the ids of the start.
    """

    user_id: str
    session_id: SessionId
    hold_id: HoldId
    test_id: str
    revision: int
    attempt: int
    state: SessionState
    title: str
    kind: Kind
    difficulty: str
    metadata: Mapping[str, str]
    total: int
    started_at: datetime
    deadline_at: datetime | None
    answered: int = 0
    solved: int = 0
    answers_given: int = 0
    answers_correct: int = 0
    version: int = 1
    last_answer_at: datetime | None = None
    submitted_at: datetime | None = None
    closed_at: datetime | None = None
    close_reason: CloseReason | None = None
    score: float | None = None
    passed: bool | None = None
    paused_at: datetime | None = None
    pause_until: datetime | None = None
    paused_seconds: float = 0.0
    engaged_seconds: float = 0.0
    seed: int | None = None
    drawn: Sequence[int] | None = None
    identity_due_seconds: float | None = None
    identity_lapse_seconds: float | None = None
    identity_locked_at: datetime | None = None
    attempts_before: int | None = None
    start_request_id: str | None = None
    start_trace_id: str | None = None
    heartbeat_seq: int | None = None
    seen_at: datetime | None = None
    left_at: datetime | None = None
    lease_check_at: datetime | None = None

    @property
    def attempt_number(self) -> int:
        """The attempt that this session uses if it counts: 1 for the first, without gaps."""
        return self.attempt if self.attempts_before is None else self.attempts_before + 1

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.user_id, self.session_id)

    @property
    def hold(self) -> HoldName:
        """The hold that pays for it."""
        return HoldName(self.user_id, self.hold_id)

    @property
    def live(self) -> bool:
        return self.state in LIVE_STATES

    @property
    def last_activity_at(self) -> datetime:
        """The latest sign of life; a pause under way is one until its end."""
        signs = (self.started_at, self.last_answer_at, self.seen_at, self.pause_until)
        return max(sign for sign in signs if sign is not None)

    @property
    def score_so_far(self) -> float:
        """The share of the questions whose latest answer is right; 0 for a test without questions."""
        return self.solved / self.total if self.total else 0.0

    def overdue(self, now: datetime, grace: timedelta) -> bool:
        """Whether its deadline and the grace after it have passed, and it is still live."""
        return self.live and self.deadline_at is not None and now >= self.deadline_at + grace

    def pause_over(self, now: datetime) -> bool:
        """Whether it is paused, and the pause budget is used up: its clock goes on by itself."""
        return self.state is SessionState.PAUSED and self.pause_until is not None and now >= self.pause_until

    def idle(self, now: datetime, allowed: timedelta) -> bool:
        """Whether it is live, has no deadline, and nothing has happened in it for the allowed time."""
        return self.live and self.deadline_at is None and now - self.last_activity_at >= allowed


@quick
@dataclass(frozen=True, slots=True)
class StartedSession:
    """The session that a start has found or made; `resumed` if it was under way already."""

    session: Session
    resumed: bool


@quick
@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer as it is kept: the `attempt`-th to this question in this session.

    `occurred_at` is by the learner's clock, within OCCURRED_AGE_MAX before `answered_at`; a time outside of
    that was moved to the nearer end, and is marked as clamped. `version` is the version of the session after
    it. The ids are those of the request that brought it.
    """

    user_id: str
    session_id: SessionId
    question_id: str
    attempt: int
    choice: str
    correct: bool
    occurred_at: datetime | None
    answered_at: datetime
    occurred_at_clamped: bool
    version: int
    request_id: str
    trace_id: str | None


@quick
@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer, and its session after it."""

    session: Session
    answer: GivenAnswer


@quick
@dataclass(frozen=True, slots=True)
class LatestAnswer:
    """A learner's latest answer to a question, the `attempt`-th one."""

    attempt: int
    correct: bool


def start(
    request: StartRequest,
    *,
    edition: Edition,
    user_id: str,
    session_id: SessionId,
    hold_id: HoldId,
    attempt: int,
    attempts_before: int,
    author: Author,
    draw: Draw,
    now: datetime,
) -> Session:
    """A new session of what was drawn from the edition."""
    definition = edition.definition
    limits = [
        seconds
        for seconds in (
            definition.time_limit_seconds,
            None if request.duration_minutes is None else request.duration_minutes * 60,
        )
        if seconds is not None
    ]
    return Session(
        user_id=user_id,
        session_id=session_id,
        hold_id=hold_id,
        test_id=edition.test_id,
        revision=edition.revision,
        attempt=attempt,
        state=SessionState.ACTIVE,
        title=definition.title if request.title is None else request.title,
        kind=definition.kind,
        difficulty=definition.difficulty if request.difficulty is None else request.difficulty,
        metadata=request.metadata,
        total=edition.total if draw.drawn is None else len(draw.drawn),
        started_at=now,
        deadline_at=now + timedelta(seconds=min(limits)) if limits else None,
        seed=draw.seed,
        drawn=draw.drawn,
        attempts_before=attempts_before,
        start_request_id=author.request_id,
        start_trace_id=author.trace_id,
    )


class ContentName(NamedTuple):
    """Names what a session asks: a revision of a test, and the session if it has drawn from that.

    The ids of tests and sessions contain none of the separators.
    """

    test_id: str
    revision: int
    session: SessionKey | None = None

    def __str__(self) -> str:
        edition = f"{self.test_id}@{self.revision}"
        return edition if self.session is None else f"{edition}/{self.session[1]}/{self.session[0]}"

    @classmethod
    def parse(cls, text: str) -> ContentName:
        """The name that this text spells."""
        edition, drawn, rest = text.partition("/")
        test_id, _, revision = edition.rpartition("@")
        session_id, _, user_id = rest.partition("/")
        session = SessionKey(user_id, SessionId(UUID(session_id))) if drawn else None
        return cls(test_id, int(revision), session)


def content_name(session: Session) -> str:
    """Names what the session asks, which is frozen with its revision of the test and with its draw."""
    drawn = None if session.drawn is None else session.key
    return str(ContentName(session.test_id, session.revision, drawn))


def require_open(session: Session) -> None:
    """Raise ServiceError unless the session takes answers.

    The reason is DEADLINE_PASSED, SESSION_CLOSED, or for a paused session ILLEGAL_TRANSITION.
    """
    if session.close_reason is CloseReason.TIMED_OUT:
        raise ServiceError(Reason.DEADLINE_PASSED, "The session's deadline has passed")
    if not session.live:
        raise ServiceError(
            Reason.SESSION_CLOSED, f"The session is {session.state}", metadata={"state": session.state.name}
        )
    if session.state is SessionState.PAUSED:
        raise ServiceError(
            Reason.ILLEGAL_TRANSITION,
            "The session is paused; resume it first",
            metadata={"from": session.state.name, "to": SessionState.ACTIVE.name},
        )


def with_answer(session: Session, *, correct: bool, previous: LatestAnswer | None, now: datetime) -> Session:
    """The session after one more answer to a question; `previous` is the answer before it, if any."""
    solved_before = previous is not None and previous.correct
    return replaced(
        session,
        answered=session.answered + (previous is None),
        solved=session.solved + correct - solved_before,
        answers_given=session.answers_given + 1,
        answers_correct=session.answers_correct + correct,
        last_answer_at=now,
        version=session.version + 1,
    )


def spends_hold(session: Session) -> bool:
    """Whether a closed session counts: it costs its unit, and its result changes the learner's statistics.

    A session that had questions and got no answer never counts, however it ended.
    """
    return session.answered > 0 or (session.total == 0 and session.state is SessionState.COMPLETED)


def uses_attempt(session: Session) -> bool:
    """Whether the session uses one of the attempts that its test allows: as soon as it counts.

    `USES_ATTEMPT` in the store says the same in SQL.
    """
    return spends_hold(session)


def attempts_used(latest: Session | None, before_latest: int) -> int:
    """How many attempts a learner has used, from their latest session and the number used before it."""
    return 0 if latest is None else before_latest + uses_attempt(latest)


def counts_as_completed(session: Session) -> bool:
    """Whether a closed session has a result: its learner handed it in, or it was ended with answers."""
    return session.close_reason is CloseReason.SUBMITTED or (
        session.close_reason in {CloseReason.TIMED_OUT, CloseReason.ADMINISTRATOR} and session.answered > 0
    )


def earned_xp(session: Session, definition: Definition) -> int:
    """The XP that the session earns: none unless it counts as completed, and was passed."""
    return definition.xp or 0 if counts_as_completed(session) and session.passed else 0
