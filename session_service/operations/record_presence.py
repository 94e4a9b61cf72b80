"""Heartbeats and departures of pages: nothing but the latest one of each session counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from session_service.domain.ids import SessionId
from session_service.domain.missing import no_such_session
from session_service.domain.presence import Heartbeat, Presence
from session_service.domain.sessions import SessionKey
from session_service.store.presence import PresenceStore

# Statements for a batch at most. Only the first heartbeats of a batch gain engaged time.
TURNS_MAX = 4


class SessionPresence:
    """What pages tell about whether somebody looks at a session."""

    def __init__(self, *, presence: PresenceStore) -> None:
        self._presence = presence

    async def record_heartbeats(self, items: Sequence[Item[Heartbeat]]) -> list[Presence | ServiceError]:
        """Count each heartbeat at most once, and tell what is known after it.

        Of several heartbeats of one session, all visible or all hidden, only the one with the highest `seq`
        is written. Where a page was shown or hidden in between, they are written one after the other: the
        first one that counts decides whether the time before it was engaged time.
        """

        async def attempt(
            some: Sequence[Item[Heartbeat]], wait: bool
        ) -> list[Presence | ServiceError | Locked]:
            turns: list[dict[SessionKey, Heartbeat]] = []
            for key, beats in _newest(some).items():
                for turn, beat in enumerate(beats):
                    if turn == len(turns):
                        turns.append({})
                    turns[turn][key] = beat
            told: dict[SessionKey, Presence | Locked] = {}
            for beats_now in turns:
                found = await self._presence.record_heartbeats(
                    {key: beat for key, beat in beats_now.items() if not isinstance(told.get(key), Locked)},
                    wait=wait,
                    deadline=latest_deadline(some),
                )
                told |= {key: _after(told.get(key), presence) for key, presence in found.items()}
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


def _newest(items: Sequence[Item[Heartbeat]]) -> dict[SessionKey, list[Heartbeat]]:
    """The heartbeats to write, by session, in their order; one that is late within the batch is left out."""
    newest: dict[SessionKey, list[Heartbeat]] = {}
    for item in items:
        beat = item.request
        beats = newest.setdefault(SessionKey(item.user_id, beat.session_id), [])
        if not beats:
            beats.append(beat)
        elif beat.seq > beats[-1].seq:
            if beat.visible == beats[-1].visible or len(beats) == TURNS_MAX:
                beats[-1] = beat
            else:
                beats.append(beat)
    return newest


def _after(earlier: Presence | Locked | None, later: Presence | Locked) -> Presence | Locked:
    """What is known after a later turn; a heartbeat of an earlier one has counted too."""
    if isinstance(earlier, Presence) and isinstance(later, Presence):
        return replace(later, counted=earlier.counted or later.counted)
    return later


def _told(told: dict[SessionKey, Presence | Locked], key: SessionKey) -> Presence | ServiceError | Locked:
    return told.get(key) or no_such_session()
