"""The learners who listen, what is known of them, and what each of their streams has still to be told.

Nothing is queued: a stream compares the state of its learner with what it has told. So a client that reads
slowly is told the latest state, and no client takes memory for what it does not read.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from enum import IntEnum

from gateway.changes.positions import SESSIONS_MAX, Position, PositionTokens
from protos.gateway.v1 import events_pb2 as pb
from protos.session.v1 import changes_pb2, sessions_pb2
from protos.subscription.v1 import accounts_pb2
from protos.subscription.v1 import changes_pb2 as entitlement_changes_pb2

# How long the end of a session is kept: longer than a stream may take to tell it, and longer than the time in
# which session_service counts a session as new.
ENDED_SECONDS = 120.0

_LIVE = frozenset({sessions_pb2.Session.ACTIVE, sessions_pb2.Session.PAUSED})


class Source(IntEnum):
    """Where changes come from."""

    SESSIONS = 0
    PROGRESS = 1
    ENTITLEMENT = 2


class Learner:
    """What is known of a learner while somebody listens. Each source writes its own part."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.listeners: set[Listener] = set()
        self.due_at = [0.0, 0.0, 0.0]
        """When to ask each source again, by the clock of the event loop."""
        self.failures = [0, 0, 0]
        """How often in a row this learner alone could not be read."""
        self.as_of_ms: int | None = None
        self.sessions: dict[bytes, changes_pb2.SessionChange] = {}
        self.progress: int | None = None
        self.entitlement: entitlement_changes_pb2.EntitlementChange | None = None
        self._ended_at: dict[bytes, float] = {}
        self.left_out = b""
        """The newest session of those that are too many; they and older ones are not told."""

    def learn_sessions(self, changes: changes_pb2.SessionChanges, *, now: float) -> bool:
        """Takes over what session_service told; whether there is anything new."""
        self.as_of_ms = changes.as_of.ToMilliseconds()
        for change in changes.sessions:
            if change.session_id <= self.left_out and change.session_id not in self.sessions:
                continue
            self.sessions[change.session_id] = change
            if change.state not in _LIVE:
                self._ended_at.setdefault(change.session_id, now)
        for session_id, ended_at in list(self._ended_at.items()):
            if now - ended_at >= ENDED_SECONDS and not self._is_new(session_id):
                self._forget(session_id)
        for session_id in sorted(self.sessions)[:-SESSIONS_MAX]:
            self.left_out = session_id
            self._forget(session_id)
        return bool(changes.sessions)

    def _is_new(self, session_id: bytes) -> bool:
        """Whether session_service may still tell of it as a new one: its id has its time (RFC 9562, 5.7)."""
        return int.from_bytes(session_id[:6]) > (self.as_of_ms or 0) - ENDED_SECONDS * 1000

    def _forget(self, session_id: bytes) -> None:
        self._ended_at.pop(session_id, None)
        self.sessions.pop(session_id, None)


class Listener:
    """One stream of a learner."""

    def __init__(self, learner: Learner, told: Position, tokens: PositionTokens) -> None:
        self.learner = learner
        self.told = told
        self.changed = asyncio.Event()
        self.missed: dict[bytes, changes_pb2.SessionChange] = {}
        """Sessions that changed while the client was away; most of them have ended."""
        self.returned = told.as_of_ms is not None
        """Whether the client has been here before, so that the changes since then have to be asked for."""
        self._ready = [False, False, False]
        self._tokens = tokens

    def waits_for(self, source: Source) -> bool:
        """Whether no read of this source has begun since the client came: what was known may be too old."""
        return not self._ready[source]

    def admit(self, source: Source) -> None:
        """What is known is new enough for this client, unless it has still to learn what it has missed."""
        if source is Source.SESSIONS and self.returned:
            return
        self._ready[source] = True
        self.changed.set()

    def pending(self) -> Iterator[pb.WatchEventsResponse]:
        """What is still to be told, from the state at the moment of each step."""
        while (message := self._next()) is not None:
            message.event_id = self._tokens.write(self.learner.user_id, self.told)
            yield message

    def _next(self) -> pb.WatchEventsResponse | None:
        learner, told = self.learner, self.told
        if self._ready[Source.SESSIONS] and (change := self._next_session()) is not None:
            told.sessions[change.session_id] = change.version
            return pb.WatchEventsResponse(session=_session_event(change))
        if self._ready[Source.PROGRESS] and learner.progress != told.progress:
            told.progress = learner.progress
            return pb.WatchEventsResponse(progress=pb.ProgressEvent(version=learner.progress or 0))
        entitlement = learner.entitlement
        if (
            self._ready[Source.ENTITLEMENT]
            and entitlement is not None
            and entitlement.fingerprint != told.fingerprint
        ):
            told.fingerprint = entitlement.fingerprint
            return pb.WatchEventsResponse(entitlement=_entitlement_event(entitlement))
        return None

    def _next_session(self) -> changes_pb2.SessionChange | None:
        """The oldest session that has changed; without one, all that the learner has were told."""
        learner, told = self.learner, self.told
        for session_id in sorted(self.missed.keys() | learner.sessions.keys()):
            candidates = (self.missed.get(session_id), learner.sessions.get(session_id))
            change = max(filter(None, candidates), key=lambda each: each.version)
            left_out = session_id <= told.left_out and session_id not in told.sessions
            if not left_out and change.version > told.sessions.get(session_id, 0):
                return change
        self.missed.clear()
        told.as_of_ms = learner.as_of_ms
        told.left_out = max(told.left_out, learner.left_out)
        told.sessions = {
            session_id: version
            for session_id, version in told.sessions.items()
            if session_id in learner.sessions
        }
        return None


def _session_event(change: changes_pb2.SessionChange) -> pb.SessionEvent:
    return pb.SessionEvent(
        session_id=str(uuid.UUID(bytes=change.session_id)),
        test_id=change.test_id,
        state=sessions_pb2.Session.State.Name(change.state),
        version=change.version,
    )


def _entitlement_event(change: entitlement_changes_pb2.EntitlementChange) -> pb.EntitlementEvent:
    event = pb.EntitlementEvent(fingerprint=change.fingerprint.hex())
    if change.fingerprint:
        event.plan_id = change.plan_id
        event.status = accounts_pb2.Subscription.Status.Name(change.status)
    return event
