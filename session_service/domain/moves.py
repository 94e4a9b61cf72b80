"""The moves of a session from state to state: by its learner, or by the clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from chassis.errors import Reason, ServiceError
from session_service.domain.engagement import engaged_enough
from session_service.domain.identity import identity_shown
from session_service.domain.sessions import CloseReason, Session
from session_service.domain.states import SessionState, require_move
from session_service.domain.tests import Definition
from session_service.domain.timing import TimeRules


def require_version(session: Session, expected: int | None) -> None:
    """Raise ServiceError: VERSION_MISMATCH if the session is not as its learner has seen it."""
    if expected is not None and session.version != expected:
        raise ServiceError(Reason.VERSION_MISMATCH, metadata={"version": session.version})


def pause(session: Session, *, budget: timedelta, now: datetime) -> Session:
    """The session with its clock stopped, at most until the budget of all its pauses is used up.

    Raises ServiceError with ILLEGAL_TRANSITION, also when nothing is left of the budget.
    """
    require_move(session.state, SessionState.PAUSED)
    left = budget - timedelta(seconds=session.paused_seconds)
    if left <= timedelta(0):
        raise ServiceError(
            Reason.ILLEGAL_TRANSITION,
            f"A session may be paused for {budget.total_seconds():g} seconds in all",
            metadata={"from": session.state.name, "to": SessionState.PAUSED.name},
        )
    return replace(
        session,
        state=SessionState.PAUSED,
        paused_at=now,
        pause_until=now + left,
        deadline_at=None if session.deadline_at is None else session.deadline_at + left,
        version=session.version + 1,
    )


def resume(session: Session, *, now: datetime) -> Session:
    """The session with its clock going on; raises ServiceError with ILLEGAL_TRANSITION."""
    require_move(session.state, SessionState.ACTIVE)
    # Engaged time and lease go on from here: the next heartbeat must not count the pause.
    ended_at = now if session.pause_until is None else min(now, session.pause_until)
    has_page = session.seen_at is not None or session.left_at is not None
    return replace(
        _without_pause(session, now=now),
        state=SessionState.ACTIVE,
        seen_at=max(session.seen_at or ended_at, ended_at) if has_page else None,
        version=session.version + 1,
    )


def complete(session: Session, definition: Definition, *, now: datetime) -> Session:
    """The session after its learner has handed it in; raises ServiceError with ILLEGAL_TRANSITION."""
    passed = _enough(session, definition) and (session.answered > 0 or session.total == 0)
    closed = _close(session, SessionState.COMPLETED, CloseReason.SUBMITTED, passed=passed, at=now)
    return replace(closed, submitted_at=now)


def abandon(session: Session, *, now: datetime) -> Session:
    """The session after its learner has given it up; raises ServiceError with ILLEGAL_TRANSITION."""
    return _close(session, SessionState.ABANDONED, CloseReason.LEARNER_LEFT, passed=False, at=now)


def expire(session: Session, definition: Definition, grace: timedelta) -> Session:
    """The session, ended when nothing was accepted any more, however late that is noticed.

    What was answered counts as if it had been handed in. It does not pass if it could not have been handed in
    at the deadline: for too little engaged time, or for an identity check. Raises like `abandon`.
    """
    if session.deadline_at is None:
        raise ValueError("a session without a deadline does not expire")
    return _close(
        session,
        SessionState.EXPIRED,
        CloseReason.TIMED_OUT,
        passed=_enough(session, definition)
        and session.answered > 0
        and engaged_enough(session, definition)
        and identity_shown(session, session.deadline_at),
        at=session.deadline_at + grace,
    )


def end_idle(session: Session, allowed: timedelta) -> Session:
    """The session, ended after its idle time, however late that is noticed; raises like `abandon`.

    It has no result: nobody has handed it in, and no time was set for it.
    """
    ended_at = session.last_activity_at + allowed
    if session.answered == 0:
        return _close(session, SessionState.ABANDONED, CloseReason.NEVER_USED, passed=False, at=ended_at)
    return _close(session, SessionState.EXPIRED, CloseReason.LEASE_LOST, passed=False, at=ended_at)


def lease_end(session: Session, times: TimeRules) -> datetime | None:
    """When a session loses its lease; None for one that needs none.

    That is an answered session, which stays until its deadline or its idle time, and one whose page has never
    sent a heartbeat: clients without heartbeats exist. A pause is no absence.
    """
    if session.answered > 0 or session.lease_check_at is None:
        return None
    ends = []
    if session.seen_at is not None:
        ends.append(session.seen_at + times.lease)
    if session.left_at is not None and (session.seen_at is None or session.seen_at <= session.left_at):
        ends.append(session.left_at + times.left_lease)
    if not ends:
        return None
    return max(min(ends), session.pause_until or session.started_at)


def lose_lease(session: Session, *, at: datetime) -> Session:
    """The session, ended because nobody has used it; raises like `abandon`."""
    return _close(session, SessionState.ABANDONED, CloseReason.NEVER_USED, passed=False, at=at)


def close_for_administrator(session: Session, definition: Definition, *, now: datetime) -> Session:
    """The session after somebody else has ended it; raises like `abandon`.

    What was answered counts as if the time had run out.
    """
    state = SessionState.EXPIRED if session.answered else SessionState.ABANDONED
    passed = _enough(session, definition) and session.answered > 0
    return _close(session, state, CloseReason.ADMINISTRATOR, passed=passed, at=now)


def as_of(session: Session, definition: Definition | None, *, now: datetime, grace: timedelta) -> Session:
    """The session as it is at a moment, whoever has noticed it.

    An overdue one has expired, and one whose pause budget is used up goes on. Only an overdue one needs its
    definition.
    """
    if session.overdue(now, grace):
        if definition is None:
            raise ValueError("the result of an overdue session needs its definition")
        return expire(session, definition, grace)
    return resume(session, now=now) if session.pause_over(now) else session


def _enough(session: Session, definition: Definition) -> bool:
    """Whether the score is at least the pass score; a test without questions has no score."""
    return definition.pass_score is None or not session.total or session.score_so_far >= definition.pass_score


def _score(session: Session) -> float | None:
    return session.score_so_far if session.total else None


def _without_pause(session: Session, *, now: datetime) -> Session:
    """The session with its pause taken into account: the deadline is later by its length, and no more."""
    if session.paused_at is None or session.pause_until is None:
        return session
    ended_at = min(max(now, session.paused_at), session.pause_until)
    unused = session.pause_until - ended_at
    return replace(
        session,
        paused_at=None,
        pause_until=None,
        paused_seconds=session.paused_seconds + (ended_at - session.paused_at).total_seconds(),
        deadline_at=None if session.deadline_at is None else session.deadline_at - unused,
    )


def _close(
    session: Session, state: SessionState, reason: CloseReason, *, passed: bool, at: datetime
) -> Session:
    require_move(session.state, state)
    return replace(
        _without_pause(session, now=at),
        state=state,
        closed_at=at,
        close_reason=reason,
        score=_score(session),
        passed=passed,
        version=session.version + 1,
    )
