"""What each service is asked for its learners, and what its answer means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.changes.listeners import Learner, Listener, Source
from gateway.changes.positions import Position
from protos.progress.v1 import changes_pb2 as progress_pb2
from protos.session.v1 import changes_pb2 as session_pb2
from protos.subscription.v1 import changes_pb2 as subscription_pb2

# Who was away for longer is told the present state, and how the sessions that they know have ended.
AWAY_SECONDS_MAX = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one learner: for all of their streams, or for one whose client has come back."""

    learner: Learner
    waiting: tuple[Listener, ...]
    returned: Listener | None = None


class Reader(Protocol):
    """One service, as the streams need it."""

    source: Source
    upstream: str
    path: str

    def questions(self, learner: Learner) -> Iterator[Question]:
        """What has to be asked about a learner now."""

    def request(self, questions: Sequence[Question]) -> Message:
        """The request with these questions, 256 at most."""

    def learn(self, question: Question, answer: Any) -> bool:
        """Takes an answer over; whether it has anything new."""


class SessionReader:
    """Sessions, by their versions."""

    source = Source.SESSIONS
    upstream = "session"
    path = "/homeroom.session.v1.SessionChangeService/ReadSessionChanges"

    def questions(self, learner: Learner) -> Iterator[Question]:
        """One for all streams, and one for each client that has come back: it may have missed an end."""
        waiting = _waiting(learner, self.source)
        for listener in waiting:
            if listener.returned:
                yield Question(learner, (), listener)
        yield Question(learner, waiting)

    def request(self, questions: Sequence[Question]) -> Message:
        return session_pb2.ReadSessionChangesRequest(learners=[self._position(each) for each in questions])

    def learn(self, question: Question, answer: session_pb2.SessionChanges) -> bool:
        returned = question.returned
        if returned is None:
            return question.learner.learn_sessions(answer, now=asyncio.get_running_loop().time())
        returned.missed = {change.session_id: change for change in answer.sessions}
        returned.returned = False
        return False

    def _position(self, question: Question) -> session_pb2.SessionPosition:
        learner = question.learner
        if question.returned is not None:
            known = question.returned.told
        else:
            known = Position(
                learner.as_of_ms, {key: change.version for key, change in learner.sessions.items()}
            )
        return session_pb2.SessionPosition(
            user_id=learner.user_id,
            since=_since(known.as_of_ms),
            known=[
                session_pb2.KnownSession(session_id=session_id, version=version)
                for session_id, version in known.sessions.items()
            ],
        )


class ProgressReader:
    """Progress, by its version."""

    source = Source.PROGRESS
    upstream = "progress"
    path = "/homeroom.progress.v1.ProgressChangeService/ReadProgressChanges"

    def questions(self, learner: Learner) -> Iterator[Question]:
        yield Question(learner, _waiting(learner, self.source))

    def request(self, questions: Sequence[Question]) -> Message:
        return progress_pb2.ReadProgressChangesRequest(user_ids=[each.learner.user_id for each in questions])

    def learn(self, question: Question, answer: progress_pb2.ProgressChange) -> bool:
        changed = question.learner.progress != answer.version
        question.learner.progress = answer.version
        return changed


class EntitlementReader:
    """What a learner is entitled to, by its fingerprint."""

    source = Source.ENTITLEMENT
    upstream = "subscription"
    path = "/homeroom.subscription.v1.EntitlementChangeService/ReadEntitlementChanges"

    def questions(self, learner: Learner) -> Iterator[Question]:
        yield Question(learner, _waiting(learner, self.source))

    def request(self, questions: Sequence[Question]) -> Message:
        return subscription_pb2.ReadEntitlementChangesRequest(
            user_ids=[each.learner.user_id for each in questions]
        )

    def learn(self, question: Question, answer: subscription_pb2.EntitlementChange) -> bool:
        learner = question.learner
        changed = learner.entitlement is None or learner.entitlement.fingerprint != answer.fingerprint
        learner.entitlement = answer
        return changed


READERS: tuple[Reader, ...] = (SessionReader(), ProgressReader(), EntitlementReader())


def _since(as_of_ms: int | None) -> Timestamp | None:
    if as_of_ms is None or as_of_ms < (time.time() - AWAY_SECONDS_MAX) * 1000:
        return None
    since = Timestamp()
    since.FromMilliseconds(as_of_ms)
    return since


def _waiting(learner: Learner, source: Source) -> tuple[Listener, ...]:
    return tuple(listener for listener in learner.listeners if listener.waits_for(source))
