"""Read sessions: one, or a learner's own, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from session_service.domain.ids import SessionId
from session_service.domain.sessions import Session
from session_service.domain.states import SessionState
from session_service.domain.tests import Edition
from session_service.store.changes import SessionKey
from session_service.store.sessions import SessionStore


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Which of the caller's sessions; None does not restrict."""

    state: SessionState | None
    test_id: str | None
    before: SessionId | None
    page_size: int


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions, newest first, and the last one's id if there are more."""

    sessions: list[Session]
    next_before: SessionId | None


class SessionReads:
    """Reads for the learner who asks: another learner's session does not exist for them."""

    def __init__(self, *, sessions: SessionStore) -> None:
        self._sessions = sessions

    async def get_sessions(
        self, items: Sequence[Item[SessionId]]
    ) -> list[tuple[Session, Edition] | ServiceError]:
        """Each session with what it asks."""
        keys = [SessionKey(item.call.user_id, item.request) for item in items]
        found = await self._sessions.get_sessions(
            sorted(set(keys)), deadline=max(item.call.deadline for item in items)
        )
        return [found.get(key) or ServiceError(Reason.NOT_FOUND, "There is no such session") for key in keys]

    async def list_sessions(self, items: Sequence[Item[ListRequest]]) -> list[SessionPage]:
        """A page for each item."""
        return await asyncio.gather(*(self._page(item) for item in items))

    async def _page(self, item: Item[ListRequest]) -> SessionPage:
        request = item.request
        sessions = await self._sessions.list_sessions(
            item.call.user_id,
            state=request.state,
            test_id=request.test_id,
            before=request.before,
            limit=request.page_size + 1,
            deadline=item.call.deadline,
        )
        page = sessions[: request.page_size]
        more = len(sessions) > len(page)
        return SessionPage(page, page[-1].session_id if more else None)
