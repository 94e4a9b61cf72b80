"""One look at a batch of starts, and what each of them needs next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chassis.postgres import idempotency
from chassis.batch import Reply
from chassis.errors import Reason, ServiceError
from chassis.postgres.idempotency import Claim, CompletedCall
from chassis.ids import uuid7
from chassis.postgres.outbox import OutboxEvent
from session_service.domain.holds import HoldRequest, HoldState, hold_request
from session_service.domain.ids import SessionId, hold_id_of
from session_service.domain.sessions import Session, StartRequest, start
from session_service.domain.tests import Edition
from session_service.operations.calls import KeyedCall
from session_service.store.changes import SessionKey
from session_service.store.starts import StartFacts
from session_service.subscription_client import release_event

# Renders the answer (session, what it asks, whether it is resumed): the bytes that every replay returns.
Render = Callable[[Session, Edition, bool], bytes]
Outcome = Reply[Any] | ServiceError


class PendingStart:
    """One start on its way to an outcome; it may take several rounds."""

    __slots__ = ("call", "claim", "hold", "hold_id", "outcome", "response")

    def __init__(self, call: KeyedCall[StartRequest]) -> None:
        self.call = call
        self.claim = call.claim
        self.hold_id = hold_id_of(*self.claim)
        self.hold: HoldState | None = None  # as subscription_service last told
        self.response = b""  # what was last tried to be stored
        self.outcome: Outcome | None = None

    @property
    def test(self) -> tuple[str, str]:
        return self.claim.user_id, self.call.request.test_id

    def completed(self) -> CompletedCall:
        return CompletedCall(self.claim, self.call.fingerprint, self.response, self.call.recorded_trace)


class Round:
    """Sorts the starts of a batch, in their order, by what the facts say of them.

    Of the starts that would collide with each other (one key, or one test of one learner) only the first goes
    on; the others follow it: they look again when it is through, and find what it has done.
    """

    def __init__(self, render: Render) -> None:
        self._render = render
        self._claiming: dict[Claim, PendingStart] = {}
        self._starting: dict[tuple[str, str], tuple[PendingStart, StartFacts]] = {}
        self._followers: list[tuple[PendingStart, PendingStart]] = []
        self._resumed: list[PendingStart] = []
        self.overdue: set[SessionKey] = set()
        self.releases: list[OutboxEvent] = []

    def add(self, pending: PendingStart, facts: StartFacts) -> None:
        """Settle the start, or remember what it needs."""
        if facts.stored is not None:
            outcome = idempotency.check(facts.stored, pending.call.fingerprint)
            # What this very batch has stored, though nobody could tell it so, is no replay.
            own = isinstance(outcome, Reply) and outcome.message == pending.response
            pending.outcome = Reply(pending.response) if own else outcome
        elif pending.claim in self._claiming:
            self._followers.append((pending, self._claiming[pending.claim]))
        elif facts.edition is None:
            pending.outcome = ServiceError(
                Reason.NOT_FOUND, "There is no such test", metadata={"testId": pending.test[1]}
            )
        elif facts.latest is not None and facts.latest.live:
            if facts.latest.overdue(facts.now):
                self.overdue.add(SessionKey(facts.latest.user_id, facts.latest.session_id))
            else:
                self._resume(pending, facts.latest, facts.edition)
        else:
            self._start(pending, facts, facts.edition)

    def to_place(self) -> list[tuple[PendingStart, HoldRequest]]:
        """The starts that need a hold, and which."""
        return [
            (pending, _hold_request(pending, facts, facts.edition))
            for pending, facts in self._starting.values()
            if pending.outcome is None and pending.hold is None and facts.edition is not None
        ]

    def to_write(self) -> tuple[list[PendingStart], list[Session]]:
        """The starts that are to be answered by one commit, and the sessions among them that are new."""
        ready = list(self._resumed)
        sessions: list[Session] = []
        for pending, facts in self._starting.values():
            if pending.outcome is None and pending.hold is HoldState.OPEN and facts.edition is not None:
                session = start(
                    pending.call.request,
                    edition=facts.edition,
                    user_id=pending.claim.user_id,
                    session_id=SessionId(uuid7()),
                    hold_id=pending.hold_id,
                    attempt=_attempt(facts),
                    now=facts.now,
                )
                pending.response = self._render(session, facts.edition, False)
                sessions.append(session)
                ready.append(pending)
        return ready, sessions

    def share_refusals(self) -> None:
        """What refuses a start refuses those that follow it with the same test; the rest looks again.

        Not so if it was refused for its key, and the key is not theirs.
        """
        for pending, leader in self._followers:
            refusal = leader.outcome
            if isinstance(refusal, ServiceError) and leader.test == pending.test:
                of_key = refusal.reason is Reason.IDEMPOTENCY_KEY_REUSED
                if not of_key or leader.claim == pending.claim:
                    pending.outcome = refusal

    def _resume(self, pending: PendingStart, session: Session, edition: Edition) -> None:
        pending.response = self._render(session, edition, True)
        self._claiming[pending.claim] = pending
        self._resumed.append(pending)
        if pending.hold is HoldState.OPEN and session.hold_id != pending.hold_id:  # it lost after it had paid
            traceparent = pending.call.call.traceparent
            self.releases.append(
                release_event(pending.claim.user_id, pending.hold_id, traceparent=traceparent)
            )

    def _start(self, pending: PendingStart, facts: StartFacts, edition: Edition) -> None:
        if pending.hold in {HoldState.COMMITTED, HoldState.RELEASED}:
            # The key has no answer, and its hold has had its end: nothing can come of it any more.
            pending.outcome = ServiceError(Reason.REQUEST_ABORTED)
            return
        if pending.test in self._starting:
            self._followers.append((pending, self._starting[pending.test][0]))
            return
        allowed = edition.definition.max_attempts
        if allowed is not None and _attempt(facts) > allowed:
            pending.outcome = ServiceError(
                Reason.ATTEMPTS_EXHAUSTED,
                f"This test may be taken {allowed} times",
                metadata={"maxAttempts": allowed},
            )
            return
        self._claiming[pending.claim] = pending
        self._starting[pending.test] = (pending, facts)


def _attempt(facts: StartFacts) -> int:
    return 1 if facts.latest is None else facts.latest.attempt + 1


def _hold_request(pending: PendingStart, facts: StartFacts, edition: Edition) -> HoldRequest:
    return hold_request(
        edition.definition,
        user_id=pending.claim.user_id,
        hold_id=pending.hold_id,
        test_id=pending.call.request.test_id,
        attempt=_attempt(facts),
        method=pending.claim.method,
        key=pending.claim.key,
    )
