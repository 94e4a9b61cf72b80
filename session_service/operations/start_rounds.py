"""One look at a batch of starts, and what each of them needs next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from random import SystemRandom
from secrets import randbits

from chassis.batch import Item, Outcome, Reply
from chassis.context import Claim
from chassis.errors import Reason, ServiceError
from chassis.ids import uuid7
from chassis.postgres import idempotency
from chassis.postgres.idempotency import CompletedCall
from chassis.postgres.keyed import completed_call
from chassis.postgres.outbox import OutboxEvent
from session_service.domain.authors import Author
from session_service.domain.holds import HoldName, HoldRequest, HoldState, OpenHold, hold_request
from session_service.domain.identity import IdentityRules, next_check, not_enrolled, with_check
from session_service.domain.ids import SessionId, hold_id_of
from session_service.domain.missing import no_such_test
from session_service.domain.moves import as_of
from session_service.domain.papers import AS_THEY_ARE, draw_paper
from session_service.domain.sessions import (
    Session,
    SessionKey,
    StartedSession,
    StartRequest,
    content_name,
    start,
)
from session_service.domain.tests import Edition
from session_service.domain.timing import TimeRules
from session_service.store.starts import Resume, StartFacts
from session_service.subscription_client import release_event

# The longest Request-Timeout of a client. Nobody waits for an older start, so its hold was left behind.
# Nothing is counted twice if this is wrong, because the key is aborted before the hold is released.
START_AGE_MAX = timedelta(seconds=60)

SEED_BITS = 63  # of a bigint

# The moments of identity checks must not be guessed.
_draw = SystemRandom().random

# Renders the answer that is stored: the bytes that every replay returns.
Render = Callable[[StartedSession], bytes]


class PendingStart:
    """One start on its way to an outcome; it may take several rounds."""

    __slots__ = (
        "asked_at", "claim", "completed", "draw", "hold", "hold_id", "item", "outcome", "releases_delivered",
        "rival_resolved", "test",
    )  # fmt: skip

    def __init__(self, item: Item[StartRequest]) -> None:
        self.item = item
        self.claim = item.claim
        self.test = self.claim.user_id, item.request.test_id
        self.hold_id = hold_id_of(*self.claim)
        self.hold: HoldState | None = None  # as subscription_service last reported it
        self.asked_at: datetime | None = None  # when a hold was requested that may exist
        self.completed: CompletedCall | None = None  # what the last write tried to store
        self.outcome: Outcome | None = None
        self.draw = AS_THEY_ARE
        # Each of these is tried once.
        self.releases_delivered = False
        self.rival_resolved = False

    def complete(self, started: StartedSession, render: Render) -> CompletedCall:
        """Render the answer, to be stored under the key."""
        content = content_name(started.session)
        self.completed = completed_call(self.item, render(started), content=content)
        return self.completed

    def lost_hold(self) -> OpenHold | None:
        """The hold that this start may have left behind when it ran out of time."""
        if self.asked_at is None or isinstance(self.outcome, Reply):
            return None
        return OpenHold(self.claim.user_id, self.hold_id, self.claim.method, self.claim.key, self.asked_at)


class Round:
    """Sorts the starts of a batch, in their order, by what the facts say about them.

    Of the starts that would collide with each other (one key, or one test of one learner) only the first one
    goes on. The others follow it: they look again after it, and find what it has done.
    """

    def __init__(self, render: Render, times: TimeRules, identity_rules: IdentityRules) -> None:
        self._render = render
        self._times = times
        self._identity_rules = identity_rules
        self._claiming: dict[Claim, PendingStart] = {}
        self._starting: dict[tuple[str, str], tuple[PendingStart, StartFacts]] = {}
        self._followers: list[tuple[PendingStart, PendingStart]] = []
        self._resumed: list[PendingStart] = []
        self._now: datetime | None = None
        self.overdue: set[SessionKey] = set()
        self.returned_to: set[SessionKey] = set()
        self.resumes: list[Resume] = []
        self.releases: list[OutboxEvent] = []

    def add(self, pending: PendingStart, facts: StartFacts) -> None:
        """Settle the start, or remember what it needs."""
        self._now = facts.now
        if facts.stored is not None:
            outcome = idempotency.check(facts.stored, pending.item.fingerprint)
            # Our own COMMIT may have succeeded although its answer was lost: that is no replay.
            tried = pending.completed
            own = isinstance(outcome, Reply) and tried is not None and outcome.message == tried.response
            pending.outcome = tried.reply() if own and tried is not None else outcome
        elif pending.claim in self._claiming:
            self._followers.append((pending, self._claiming[pending.claim]))
        elif facts.edition is None:
            pending.outcome = no_such_test(pending.item.request.test_id)
        elif facts.latest is not None and facts.latest.live:
            if facts.latest.overdue(facts.now, self._times.grace):
                self.overdue.add(facts.latest.key)
            else:
                definition = facts.edition.definition
                live = as_of(facts.latest, definition, now=facts.now, grace=self._times.grace)
                self._resume(pending, live)
        else:
            self._start(pending, facts, facts.edition)

    def to_place(self) -> list[tuple[PendingStart, HoldRequest]]:
        """The starts that need a hold, and which hold."""
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
                    pending.item.request,
                    edition=facts.edition,
                    user_id=pending.claim.user_id,
                    session_id=SessionId(uuid7()),
                    hold_id=pending.hold_id,
                    attempt=_attempt(facts),
                    attempts_before=facts.attempts_used,
                    author=Author.of(pending.item.context),
                    draw=pending.draw,
                    now=facts.now,
                )
                if facts.edition.definition.identity_checks:
                    definition = facts.edition.definition
                    session = with_check(
                        session, next_check(definition, self._identity_rules, chance=_draw())
                    )
                pending.complete(StartedSession(session, resumed=False), self._render)
                sessions.append(session)
                ready.append(pending)
        return ready, sessions

    def is_left_behind(self, rival: OpenHold) -> bool:
        """Whether the start of this hold must have ended, because no start takes so long."""
        return self._now is not None and self._now - rival.placed_at > START_AGE_MAX

    def asking(self, pending: PendingStart) -> None:
        """Note that a hold is requested now. From now on it may exist, whatever the answer is."""
        pending.asked_at = self._now

    def share_refusals(self) -> None:
        """A refusal of a start also refuses those that follow it with the same test; the others look again.

        A refusal for the key is shared only with the same key.
        """
        for pending, leader in self._followers:
            refusal = leader.outcome
            if isinstance(refusal, ServiceError) and leader.test == pending.test:
                of_key = refusal.reason is Reason.IDEMPOTENCY_KEY_REUSED
                if not of_key or leader.claim == pending.claim:
                    pending.outcome = refusal

    def _resume(self, pending: PendingStart, session: Session) -> None:
        pending.complete(StartedSession(session, resumed=True), self._render)
        has_page = session.seen_at is not None or session.left_at is not None
        if has_page or session.deadline_at is None:  # otherwise no silence ends the session
            self.returned_to.add(session.key)
        self._claiming[pending.claim] = pending
        self._resumed.append(pending)
        event = None
        if pending.hold is HoldState.OPEN and session.hold_id != pending.hold_id:  # another start won
            hold = HoldName(pending.claim.user_id, pending.hold_id)
            event = release_event(hold, traceparent=pending.item.context.traceparent)
            self.releases.append(event)
        event_id = None if event is None else event.event_id
        self.resumes.append(Resume(pending.claim.user_id, pending.claim.key, session.session_id, event_id))

    def _start(self, pending: PendingStart, facts: StartFacts, edition: Edition) -> None:
        if pending.hold in {HoldState.COMMITTED, HoldState.RELEASED}:
            # The key has no answer, and its hold has ended: this key can get no session any more.
            pending.outcome = ServiceError(Reason.REQUEST_ABORTED)
            return
        if pending.test in self._starting:
            self._followers.append((pending, self._starting[pending.test][0]))
            return
        allowed = edition.definition.max_attempts
        if allowed is not None and facts.attempts_used >= allowed:
            pending.outcome = ServiceError(
                Reason.ATTEMPTS_EXHAUSTED,
                f"This test may be taken {allowed} times",
                metadata={"maxAttempts": allowed},
            )
            return
        if edition.definition.identity_checks and not facts.enrolled:
            pending.outcome = not_enrolled(edition.definition)
            return
        try:
            pending.draw = draw_paper(edition, pending.item.request.difficulty, lambda: randbits(SEED_BITS))
        except ServiceError as refusal:
            pending.outcome = refusal
            return
        self._claiming[pending.claim] = pending
        self._starting[pending.test] = (pending, facts)


def _attempt(facts: StartFacts) -> int:
    """The number of the next session of this test; see `Session.attempt`."""
    return 1 if facts.latest is None else facts.latest.attempt + 1


def _hold_request(pending: PendingStart, facts: StartFacts, edition: Edition) -> HoldRequest:
    return hold_request(
        edition.definition,
        user_id=pending.claim.user_id,
        hold_id=pending.hold_id,
        test_id=pending.item.request.test_id,
        attempt=_attempt(facts),
        method=pending.claim.method,
        key=pending.claim.key,
    )
