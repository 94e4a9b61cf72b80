"""The identity checks of a session as the requests of a batch change them in memory, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chassis.errors import Reason, ServiceError
from chassis.postgres.refusals import busy
from session_service.domain.identity import (
    CheckName,
    IdentityEvent,
    IdentityEventKind,
    IdentityRules,
    answer_by,
    check_after_release,
    check_due,
    identity_locked,
    next_check,
    progress_of,
    question_position,
    require_identity,
    session_seconds,
    with_check,
)
from session_service.domain.moves import as_of
from session_service.domain.sessions import Session, require_open
from session_service.store.identity import CheckFacts


@dataclass(frozen=True, slots=True)
class DueCheck:
    """The check that waits for its answer."""

    check_number: int
    prompt: str
    answer_by: datetime
    tries_left: int


@dataclass(frozen=True, slots=True)
class CheckView:
    """The checks of a session at a moment; `session` is as it reads then."""

    session: Session
    locked: bool
    total: int
    passed: int
    due: DueCheck | None


@dataclass(frozen=True, slots=True)
class JudgedCheck:
    """What an answer to a check did."""

    session: Session
    check_number: int
    passed: bool
    tries_left: int
    locked: bool


class CheckDraft:
    """One session's checks under their lock. What is refused may still leave a lapse behind, to be written.

    Args:
        facts: what the database knows, at one moment.
        rules: the times and bounds of checks.
        grace: how long after its deadline a session is still open.
        failures_today: the wrong answers of the day, by their learner. The drafts of a batch share it.
    """

    def __init__(
        self, facts: CheckFacts, rules: IdentityRules, grace: timedelta, failures_today: dict[str, int]
    ) -> None:
        self._facts = facts
        self._rules = rules
        self._grace = grace
        self._failures_today = failures_today
        self._failures_today.setdefault(facts.session.user_id, facts.failures_today)
        self._known = list(facts.events)
        self.session = facts.session
        self.new_events: list[IdentityEvent] = []

    @property
    def changed(self) -> bool:
        return bool(self.new_events)

    def answer(
        self,
        check_number: int,
        *,
        compared_with: CheckName | None,
        right: bool,
        request_id: str,
        chance: float,
    ) -> JudgedCheck:
        """Count one answer to the check that is due.

        Args:
            check_number: the check that the learner answers.
            compared_with: the question that the answer was compared with, before the locks; None if there was
                none to compare with then.
            right: what the comparison has found.
            request_id: the request, for the history.
            chance: when the next check comes, see `next_check`.

        Raises:
            ServiceError: DEADLINE_PASSED or SESSION_CLOSED; IDENTITY_LOCKED; NOT_FOUND when the check is not
                due; RATE_LIMITED when the learner was wrong too often today; UNAVAILABLE when the check came
                after the comparison.
        """
        self._require_open_and_unlocked()
        progress = progress_of(self._known)
        if not check_due(self.session, self._facts.now) or progress.check_number != check_number:
            raise ServiceError(Reason.NOT_FOUND, "This identity check is not due")
        failures = self._failures_today[self.session.user_id]
        if failures >= self._rules.failures_per_day_max:
            wait = self._facts.tomorrow - self._facts.now
            raise ServiceError(
                Reason.RATE_LIMITED,
                f"{failures} wrong answers today; the next one is possible tomorrow",
                metadata={"failuresMax": self._rules.failures_per_day_max},
                retry_after_seconds=wait.total_seconds(),
            )
        if compared_with is None or compared_with != name_of_check(self._facts, self.session, check_number):
            raise busy()
        user_id = self.session.user_id
        if not right:
            self._failures_today[user_id] = failures + 1
            self._add(IdentityEventKind.FAILED, by=user_id, request_id=request_id)
            progress = progress_of(self._known)
            if not progress.tries_left:
                self.session = replace(self.session, identity_locked_at=self._facts.now)
            return self._judged(check_number, passed=False, tries_left=progress.tries_left)
        self._add(IdentityEventKind.PASSED, by=user_id, request_id=request_id)
        times = next_check(
            self._facts.definition,
            self._rules,
            passed=progress.passed + 1,
            after_seconds=session_seconds(self.session, self._facts.now),
            chance=chance,
        )
        self.session = with_check(self.session, times)
        return self._judged(check_number, passed=True, tries_left=0)

    def release(self, *, by: str, reason: str, request_id: str, chance: float) -> CheckView:
        """Unlock the session, and let another check come.

        Raises:
            ServiceError: DEADLINE_PASSED or SESSION_CLOSED; ILLEGAL_TRANSITION when nothing is locked.
        """
        try:
            self._require_open_and_unlocked()
        except ServiceError as refusal:
            if refusal.reason is not Reason.IDENTITY_LOCKED:
                raise
        else:
            raise ServiceError(
                Reason.ILLEGAL_TRANSITION,
                "The session is not locked",
                metadata={"from": "UNLOCKED", "to": "RELEASED"},
            )
        self._add(IdentityEventKind.RELEASED, by=by, reason=reason, request_id=request_id)
        now_seconds = session_seconds(self.session, self._facts.now)
        times = check_after_release(
            self._facts.definition, self._rules, after_seconds=now_seconds, chance=chance
        )
        self.session = with_check(self.session, times)
        facts = replace(self._facts, session=self.session, events=self._known)
        return replace(view_of(facts, self._grace), due=None)

    def _require_open_and_unlocked(self) -> None:
        """Notes a lapse that nobody has noticed yet, before it refuses."""
        require_open(as_of(self.session, self._facts.definition, now=self._facts.now, grace=self._grace))
        if self.session.identity_locked_at is None and identity_locked(self.session, self._facts.now):
            self._add(IdentityEventKind.LAPSED)
            self.session = replace(self.session, identity_locked_at=self._facts.now)
        require_identity(self.session, self._facts.now)

    def _add(self, kind: IdentityEventKind, *, by: str = "", reason: str = "", request_id: str = "") -> None:
        progress = progress_of(self._known)
        event = IdentityEvent(
            user_id=self.session.user_id,
            session_id=self.session.session_id,
            check_number=progress.check_number,
            step=progress.steps + 1,
            kind=kind,
            by_user=by,
            reason=reason,
            request_id=request_id[:255],
            recorded_at=self._facts.now,
        )
        self._known.append(event)
        self.new_events.append(event)

    def _judged(self, check_number: int, *, passed: bool, tries_left: int) -> JudgedCheck:
        return JudgedCheck(
            session=self.session,
            check_number=check_number,
            passed=passed,
            tries_left=tries_left,
            locked=identity_locked(self.session, self._facts.now),
        )


def view_of(facts: CheckFacts, grace: timedelta) -> CheckView:
    """The checks of a session as its learner may see them."""
    session = as_of(facts.session, facts.definition, now=facts.now, grace=grace)
    progress = progress_of(facts.events)
    due = None
    if session.live and check_due(session, facts.now) and facts.enrollment is not None:
        position = question_position(session, progress.check_number, len(facts.enrollment.questions))
        due = DueCheck(
            check_number=progress.check_number,
            prompt=facts.enrollment.questions[position].prompt,
            answer_by=answer_by(session, facts.now),
            tries_left=progress.tries_left,
        )
    return CheckView(
        session=session,
        locked=session.live and identity_locked(session, facts.now),
        total=facts.definition.identity_checks or 0,
        passed=progress.passed,
        due=due,
    )


def name_of_check(facts: CheckFacts, session: Session, check_number: int) -> CheckName | None:
    """The question that a check of the session asks; None for a learner who has none."""
    if facts.enrollment is None:
        return None
    position = question_position(session, check_number, len(facts.enrollment.questions))
    return CheckName(check_number, facts.enrollment.version, position)
