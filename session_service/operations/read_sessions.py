"""Read sessions, and what they ask."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from chassis.batch import Item, latest_deadline
from chassis.errors import Reason, ServiceError
from session_service.domain.ids import SessionId
from session_service.domain.sessions import Session, SessionKey, revision_named
from session_service.domain.tests import Edition
from session_service.store.editions import EditionKey
from session_service.store.sessions import SessionStore

CONTENTS_SECONDS_MAX = 2.0


class SessionReads:
    """Reads for the learner who asks: another learner's session does not exist for them."""

    def __init__(self, *, sessions: SessionStore) -> None:
        self._sessions = sessions

    async def get_sessions(
        self, items: Sequence[Item[SessionId]]
    ) -> list[tuple[Session, Edition] | ServiceError]:
        """Each session with what it asks."""
        keys = [SessionKey(item.user_id, item.request) for item in items]
        found = await self._sessions.get_sessions(set(keys), deadline=latest_deadline(items))
        return [found.get(key) or ServiceError(Reason.NOT_FOUND, "There is no such session") for key in keys]

    async def get_contents(self, names: Collection[str]) -> dict[str, Edition]:
        """What the sessions with these content names ask; see `content_name`."""
        keys = {name: EditionKey(*revision_named(name)) for name in names}
        editions = await self._sessions.get_editions(
            set(keys.values()), deadline=time.monotonic() + CONTENTS_SECONDS_MAX
        )
        return {name: editions[key] for name, key in keys.items() if key in editions}
