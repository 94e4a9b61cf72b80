"""A batch of requests carried out on sessions in memory, one after the other, under their locks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from chassis.postgres import idempotency
from chassis.batch import Reply
from chassis.errors import Reason, ServiceError
from chassis.postgres.idempotency import Claim, CompletedCall
from chassis.postgres.isolation import Locked
from session_service.domain.ids import SessionId
from session_service.domain.sessions import GivenAnswer, LatestAnswer, Session, expire
from session_service.domain.tests import Edition
from session_service.operations.calls import KeyedCall
from session_service.operations.closings import closing_events
from session_service.store.changes import ChangeFacts, Changes, SessionKey


class SessionRequest(Protocol):
    """What names a session; `question_id` is empty when it is about no question."""

    @property
    def session_id(self) -> SessionId: ...

    @property
    def question_id(self) -> str: ...


R = TypeVar("R", bound=SessionRequest)
Outcome = Reply[Any] | ServiceError


class Draft:
    """One session as the requests of a batch change it; an overdue one has expired before any of them."""

    def __init__(self, *, session: Session, edition: Edition) -> None:
        self.before = session
        self.session = session
        self.edition = edition
        self.answers: list[GivenAnswer] = []
        self.latest_answers: dict[str, LatestAnswer] = {}
        self._closed_by = ""

    def expire_if_overdue(self, now: datetime, traceparent: str) -> None:
        if self.session.overdue(now):
            self.close(expire(self.session), traceparent)

    def close(self, session: Session, traceparent: str) -> None:
        """Take over the closed session, and the trace in which that was done."""
        self.session = session
        self._closed_by = traceparent

    def changes(self) -> Changes:
        """What this one session adds to what is to be written, the keys aside."""
        if self.session is self.before:
            return Changes()
        closed = self.before.live and not self.session.live
        return Changes(
            sessions=(self.session,),
            answers=self.answers,
            events=closing_events(self.session, self.edition.definition, traceparent=self._closed_by)
            if closed
            else (),
        )


# Carries out one request on a draft and renders its answer; raises ServiceError to refuse it, and then has
# left the draft as it was.
Decide = Callable[[Draft, KeyedCall[R], datetime], bytes]


class Drafts(Generic[R]):
    """The drafts of one batch, and the answers given on the way.

    `own` holds responses that an earlier try of this very batch may have stored: they are no replays.
    """

    def __init__(self, decide: Decide[R], *, own: Mapping[Claim, bytes]) -> None:
        self._decide = decide
        self._own = own
        self._drafts: dict[SessionKey, Draft] = {}
        self._completed: dict[Claim, CompletedCall] = {}

    def carry_out(
        self, calls: Sequence[KeyedCall[R]], facts: Sequence[ChangeFacts]
    ) -> list[Outcome | Locked]:
        """An outcome for each request, in order."""
        return [self._one(call, fact) for call, fact in zip(calls, facts, strict=True)]

    def responses(self) -> dict[Claim, bytes]:
        """The answers that are to be stored."""
        return {claim: call.response for claim, call in self._completed.items()}

    def changes(self) -> Changes:
        """All that is to be written."""
        drafted = [draft.changes() for draft in self._drafts.values()]
        return Changes(
            sessions=[session for changes in drafted for session in changes.sessions],
            answers=[answer for changes in drafted for answer in changes.answers],
            calls=list(self._completed.values()),
            events=[event for changes in drafted for event in changes.events],
        )

    def _one(self, call: KeyedCall[R], fact: ChangeFacts) -> Outcome | Locked:
        known = self._known(call, fact)
        if known is not None:
            return known
        if fact.session is None or fact.edition is None:
            return ServiceError(Reason.NOT_FOUND, "There is no such session")
        if not fact.locked:
            return Locked.ELSEWHERE
        draft = self._draft(fact.session, fact.edition)
        if fact.latest_answer is not None:
            draft.latest_answers.setdefault(call.request.question_id, fact.latest_answer)
        draft.expire_if_overdue(fact.now, call.call.traceparent)
        try:
            response = self._decide(draft, call, fact.now)
        except ServiceError as refusal:
            return refusal
        self._completed[call.claim] = CompletedCall(
            call.claim, call.fingerprint, response, call.recorded_trace
        )
        return Reply(response)

    def _known(self, call: KeyedCall[R], fact: ChangeFacts) -> Outcome | None:
        """What the key has been answered with, before this batch or in it."""
        if fact.stored is not None:
            outcome = idempotency.check(fact.stored, call.fingerprint)
            own = isinstance(outcome, Reply) and self._own.get(call.claim) == outcome.message
            return Reply(fact.stored.response) if own else outcome
        earlier = self._completed.get(call.claim)
        if earlier is None:
            return None
        if earlier.fingerprint != call.fingerprint:
            return ServiceError(Reason.IDEMPOTENCY_KEY_REUSED)
        return Reply(earlier.response, replayed=True, original=earlier.traceparent)

    def _draft(self, session: Session, edition: Edition) -> Draft:
        key = SessionKey(session.user_id, session.session_id)
        draft = self._drafts.get(key)
        if draft is None:
            draft = self._drafts[key] = Draft(session=session, edition=edition)
        return draft
