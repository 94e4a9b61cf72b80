"""Heartbeats and departures of pages: nothing but the latest one of each session counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chassis.batch import Item, latest_deadline
from chassis.errors import Reason, ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from session_service.domain.ids import SessionId
from session_service.domain.presence import Heartbeat, Presence
from session_service.domain.sessions import SessionKey
from session_service.store.presence import PresenceStore


class SessionPresence:
    """What pages tell about whether somebody looks at a session."""

    def __init__(self, *, presence: PresenceStore) -> None:
        self._presence = presence

    async def record_heartbeats(self, items: Sequence[Item[Heartbeat]]) -> list[Presence | ServiceError]:
        """Count each heartbeat at most once, and tell what is known after it.

        Of several heartbeats of one session only the one with the highest `seq` is written: the others of the
        batch are as good as late.
        """

        async def attempt(
            some: Sequence[Item[Heartbeat]], wait: bool
        ) -> list[Presence | ServiceError | Locked]:
            newest: dict[SessionKey, Heartbeat] = {}
            for item in some:
                key = SessionKey(item.user_id, item.request.session_id)
                beat = newest.setdefault(key, item.request)
                if item.request.seq > beat.seq:
                    newest[key] = item.request
            told = await self._presence.record_heartbeats(newest, wait=wait, deadline=latest_deadline(some))
            return [_told(told, SessionKey(item.user_id, item.request.session_id)) for item in some]

        return await run_isolated(
            items, attempt, owner_of=lambda item: SessionKey(item.user_id, item.request.session_id)
        )

    async def leave_sessions(self, items: Sequence[Item[SessionId]]) -> list[Presence | ServiceError]:
        """Note that the page of each session is being closed."""

        async def attempt(
            some: Sequence[Item[SessionId]], wait: bool
        ) -> list[Presence | ServiceError | Locked]:
            keys = [SessionKey(item.user_id, item.request) for item in some]
            told = await self._presence.leave_sessions(set(keys), wait=wait, deadline=latest_deadline(some))
            return [_told(told, key) for key in keys]

        return await run_isolated(
            items, attempt, owner_of=lambda item: SessionKey(item.user_id, item.request)
        )

    async def renew_leases(self, keys: Collection[SessionKey], *, deadline: float) -> None:
        """Note that the learners of these sessions are back."""
        await self._presence.renew_leases(keys, deadline=deadline)


def _told(told: dict[SessionKey, Presence | Locked], key: SessionKey) -> Presence | ServiceError | Locked:
    return told.get(key) or ServiceError(Reason.NOT_FOUND, "There is no such session")
