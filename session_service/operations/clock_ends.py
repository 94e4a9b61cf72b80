"""The ends that time brings to a session: what the sweeps do, and what a repair does in their place."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from session_service.domain.moves import end_idle, lease_end, lose_lease
from session_service.operations.drafts import Draft


def end_overdue(draft: Draft, now: datetime) -> None:
    """End the session if its deadline has passed; let it go on if its pause is over."""
    draft.catch_up(now, "")


def end_when_idle(draft: Draft, now: datetime) -> None:
    """End a session without a deadline in which nothing has happened for the idle time."""
    if draft.session.idle(now, draft.times.idle_allowed):
        draft.move(end_idle(draft.session, draft.times.idle_allowed), "")


def end_when_unused(draft: Draft, now: datetime) -> None:
    """End a session that has lost its lease; for another one, note when to look again."""
    draft.catch_up(now, "")
    if not draft.session.live:
        return
    end = lease_end(draft.session, draft.times)
    if end is not None and now >= end:
        draft.move(lose_lease(draft.session, at=end), "")
    else:
        draft.session = replace(draft.session, lease_check_at=end)


def end_when_due(draft: Draft, now: datetime) -> bool:
    """End the session if any of the sweeps would; returns whether it has ended."""
    for end in (end_overdue, end_when_idle, end_when_unused):
        if draft.session.live:
            end(draft, now)
    return not draft.session.live
