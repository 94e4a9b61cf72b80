"""What a caller knows of a learner's sessions, and what is newer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from session_service.domain.ids import SessionId
from session_service.domain.states import SessionState

# The sessions of one learner that are told at once; the newest ones.
SESSIONS_TOLD_MAX = 64


@dataclass(frozen=True, slots=True)
class SessionPosition:
    """What a caller knows of one learner: the time of an earlier answer, and versions of sessions."""

    user_id: str
    since: datetime | None
    known: Mapping[SessionId, int]


@dataclass(frozen=True, slots=True)
class SessionChange:
    """A session as it is now."""

    session_id: SessionId
    test_id: str
    state: SessionState
    version: int


@dataclass(frozen=True, slots=True)
class SessionChanges:
    """What is newer than a position, and the time of which that is true."""

    as_of: datetime
    sessions: tuple[SessionChange, ...]


def newer(position: SessionPosition, found: Iterable[SessionChange]) -> tuple[SessionChange, ...]:
    """The sessions that are newer than the caller knows, in the order of their ids; the newest ones."""
    changed = {
        each.session_id: each for each in found if each.version > position.known.get(each.session_id, 0)
    }
    return tuple(changed[session_id] for session_id in sorted(changed)[-SESSIONS_TOLD_MAX:])
