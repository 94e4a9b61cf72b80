"""Read sessions, and what they ask."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from session_service.domain.ids import SessionId
from session_service.domain.missing import no_such_session
from session_service.domain.papers import Paper
from session_service.domain.sessions import ContentName, Session, SessionKey
from session_service.store.editions import EditionKey
from session_service.store.sessions import SessionStore

CONTENTS_SECONDS_MAX = 2.0


class SessionReads:
    """Reads for the learner who asks: another learner's session does not exist for them."""

    def __init__(self, *, sessions: SessionStore) -> None:
        self._sessions = sessions

    async def get_sessions(
        self, items: Sequence[Item[SessionId]]
    ) -> list[tuple[Session, Paper] | ServiceError]:
        """Each session with what it asks."""
        keys = [SessionKey(item.user_id, item.request) for item in items]
        found = await self._sessions.get_sessions(set(keys), deadline=latest_deadline(items))
        return [found.get(key) or no_such_session() for key in keys]

    async def get_contents(self, names: Collection[str]) -> dict[str, Paper]:
        """What the sessions with these content names ask; see `content_name`."""
        wanted = {name: ContentName.parse(name) for name in names}
        deadline = time.monotonic() + CONTENTS_SECONDS_MAX
        keys = {name.session for name in wanted.values() if name.session is not None}
        drawn = await self._sessions.get_sessions(keys, deadline=deadline) if keys else {}
        shared = {EditionKey(name.test_id, name.revision) for name in wanted.values() if name.session is None}
        editions = await self._sessions.get_editions(shared, deadline=deadline) if shared else {}
        papers: dict[str, Paper] = {}
        for text, name in wanted.items():
            if name.session is not None and name.session in drawn:
                papers[text] = drawn[name.session][1]
            edition = editions.get(EditionKey(name.test_id, name.revision))
            if name.session is None and edition is not None:
                papers[text] = Paper(edition, None)
        return papers
