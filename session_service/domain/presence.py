"""Whether somebody looks at a session: heartbeats of its page, and what they tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from session_service.domain.ids import SessionId
from session_service.domain.sessions import SessionKey
from session_service.domain.states import SessionState


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life of the page of a session; `seq` grows with each."""

    session_id: SessionId
    seq: int
    visible: bool


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of a session's learner, after a heartbeat or a departure.

    `seq` is the highest one of the session's heartbeats, 0 before the first. `counted` says whether this
    heartbeat has just become the highest one.
    """

    user_id: str
    session_id: SessionId
    state: SessionState
    deadline_at: datetime | None
    engaged_seconds: float
    seq: int
    counted: bool = False

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.user_id, self.session_id)
