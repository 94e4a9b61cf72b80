"""The states of a session and the moves between them; every predicate comes from the one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from chassis.errors import Reason, ServiceError


class SessionState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABANDONED = "abandoned"
    EXPIRED = "expired"


MOVES: Mapping[SessionState, frozenset[SessionState]] = {
    SessionState.ACTIVE: frozenset(
        {SessionState.PAUSED, SessionState.COMPLETED, SessionState.ABANDONED, SessionState.EXPIRED}
    ),
    SessionState.PAUSED: frozenset(
        {SessionState.ACTIVE, SessionState.COMPLETED, SessionState.ABANDONED, SessionState.EXPIRED}
    ),
    SessionState.COMPLETED: frozenset(),
    SessionState.ABANDONED: frozenset(),
    SessionState.EXPIRED: frozenset(),
}

LIVE_STATES = frozenset(state for state, moves in MOVES.items() if moves)
"""A session in one of these is under way: a learner has at most one per test."""

CLOSED_STATES = frozenset(MOVES) - LIVE_STATES


def require_move(before: SessionState, after: SessionState) -> None:
    """Raise ServiceError with ILLEGAL_TRANSITION unless the table has the move."""
    if after not in MOVES[before]:
        raise ServiceError(
            Reason.ILLEGAL_TRANSITION,
            f"A session that is {before} cannot become {after}",
            metadata={"from": before.name, "to": after.name},
        )
