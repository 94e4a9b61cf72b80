"""A batch of requests carried out on sessions in memory, one after the other, under their locks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Generic, TypeVar

from chassis.batch import Item, Outcome, Reply
from chassis.context import Claim
from chassis.errors import Reason, ServiceError
from chassis.postgres import idempotency
from chassis.postgres.idempotency import CompletedCall
from chassis.postgres.isolation import Locked
from session_service.domain.authors import THE_SERVICE, Author
from session_service.domain.missing import no_such_session
from session_service.domain.moves import as_of
from session_service.domain.papers import Paper
from session_service.domain.sessions import (
    GivenAnswer,
    LatestAnswer,
    Session,
    SessionKey,
    SessionRequest,
)
from session_service.domain.tests import Edition
from session_service.domain.timeline import SessionEvent, event_of_move, event_of_refusal
from session_service.domain.timing import TimeRules
from session_service.operations.closings import closing_events
from session_service.store.changes import ChangeFacts, Changes

R = TypeVar("R", bound=SessionRequest)


class Draft:
    """One session as the requests of a batch change it, one after the other.

    `paper` is what the session asks. `author` is who causes the request under way. `calls` are the requests
    that were carried out.
    """

    def __init__(self, *, session: Session, edition: Edition, times: TimeRules) -> None:
        self.before = session
        self.session = session
        self.edition = edition
        self.paper = Paper(edition, session.drawn)
        self.times = times
        self.author = THE_SERVICE
        self.answers: list[GivenAnswer] = []
        self.calls: list[CompletedCall] = []
        self.latest_answers: dict[str, LatestAnswer] = {}
        self.timeline: list[SessionEvent] = []
        self._told = session
        self._moved_by = ""

    def tell(self, author: Author, now: datetime, note: str = "") -> None:
        """Put a change of state since the last call, if there is one, into the timeline."""
        event = event_of_move(self._told, self.session, author=author, now=now, note=note)
        self._told = self.session
        if event is not None:
            self.timeline.append(event)

    def tell_refusal(self, refusal: ServiceError, author: Author, now: datetime) -> None:
        """Put a refused request into the timeline, if it is worth it."""
        event = event_of_refusal(self.session, refusal, author=author, now=now)
        if event is not None:
            self.timeline.append(event)

    def catch_up(self, now: datetime, traceparent: str) -> bool:
        """Do what the clock has brought: an overdue session expires, and one whose pause is over goes on.

        Returns whether it has brought anything.
        """
        session = as_of(self.session, self.edition.definition, now=now, grace=self.times.grace)
        if session is self.session:
            return False
        self.move(session, traceparent)
        return True

    def move(self, session: Session, traceparent: str) -> None:
        """Take over the session in its new state, and the trace in which it was changed."""
        self.session = session
        self._moved_by = traceparent

    def changes(self) -> Changes:
        """What this one session adds to what is to be written."""
        if self.session is self.before:
            return Changes(calls=self.calls, timeline=self.timeline)
        closed = self.before.live and not self.session.live
        return Changes(
            (self.session,),
            self.answers,
            self.calls,
            closing_events(self.session, self.edition.definition, traceparent=self._moved_by)
            if closed
            else (),
            self.timeline,
        )


# Carries out one request on a draft, and makes the record with the answer to it. To refuse the request it
# raises ServiceError, and leaves the draft as it was.
Decide = Callable[[Draft, Item[R], datetime], CompletedCall]


class Drafts(Generic[R]):
    """The drafts of one batch, and the answers that its requests get.

    `own` holds the responses that an earlier attempt of this same batch may have stored: they are no replays.
    """

    def __init__(self, decide: Decide[R], *, times: TimeRules, own: Mapping[Claim, bytes]) -> None:
        self._decide = decide
        self._times = times
        self._own = own
        self._drafts: dict[SessionKey, Draft] = {}
        self._completed: dict[Claim, CompletedCall] = {}

    def carry_out(self, items: Sequence[Item[R]], facts: Sequence[ChangeFacts]) -> list[Outcome | Locked]:
        """An outcome for each request, in order."""
        return [self._one(item, fact) for item, fact in zip(items, facts, strict=True)]

    def responses(self, sessions: Iterable[SessionKey]) -> dict[Claim, bytes]:
        """The answers that are to be stored for requests about these sessions."""
        return {call.claim: call.response for key in sessions for call in self._drafts[key].calls}

    def drafted(self) -> dict[SessionKey, Changes]:
        """What is to be written of each session, and nothing of one that stays as it is."""
        return {key: draft.changes() for key, draft in self._drafts.items()}

    def changes(self) -> Changes:
        """All that is to be written."""
        drafted = self.drafted().values()
        return Changes(
            sessions=[session for changes in drafted for session in changes.sessions],
            answers=[answer for changes in drafted for answer in changes.answers],
            calls=[call for changes in drafted for call in changes.calls],
            events=[event for changes in drafted for event in changes.events],
            timeline=[event for changes in drafted for event in changes.timeline],
        )

    def _one(self, item: Item[R], fact: ChangeFacts) -> Outcome | Locked:
        claim = item.claim
        known = self._known(item, claim, fact)
        if known is not None:
            return known
        if fact.session is None or fact.edition is None:
            return no_such_session()
        if not fact.locked:
            return Locked.HELD_BY_ANOTHER
        draft = self._draft(fact.key, fact.session, fact.edition)
        if fact.latest_answer is not None:
            draft.latest_answers.setdefault(item.request.question_id, fact.latest_answer)
        author = draft.author = Author.of(item.context)
        if draft.catch_up(fact.now, item.context.traceparent):
            draft.tell(author.for_the_service(), fact.now)
        try:
            completed = self._decide(draft, item, fact.now)
        except ServiceError as refusal:
            draft.tell_refusal(refusal, author, fact.now)
            return refusal
        draft.tell(author, fact.now)
        draft.calls.append(completed)
        self._completed[claim] = completed
        return completed.reply()

    def _known(self, item: Item[R], claim: Claim, fact: ChangeFacts) -> Outcome | None:
        """The answer that is stored for the key, before this batch or in it."""
        if fact.stored is not None:
            outcome = idempotency.check(fact.stored, item.fingerprint)
            own = isinstance(outcome, Reply) and self._own.get(claim) == outcome.message
            return Reply(fact.stored.response, content=fact.stored.content) if own else outcome
        earlier = self._completed.get(claim)
        if earlier is None:
            return None
        if earlier.fingerprint != item.fingerprint:
            return ServiceError(Reason.IDEMPOTENCY_KEY_REUSED)
        return Reply(earlier.response, replayed=True, original=earlier.traceparent, content=earlier.content)

    def _draft(self, key: SessionKey, session: Session, edition: Edition) -> Draft:
        draft = self._drafts.get(key)
        if draft is None:
            draft = self._drafts[key] = Draft(session=session, edition=edition, times=self._times)
        return draft
