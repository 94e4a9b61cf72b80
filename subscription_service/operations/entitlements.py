"""Telling learners, and those who serve them, what they are entitled to."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.errors import ServiceError
from subscription_service.domain.accounts import invalid_user_reference
from subscription_service.domain.entitlements import Entitlements, entitlements_of
from subscription_service.store.entitlements import EntitlementStore


class EntitlementOperations:
    def __init__(self, *, store: EntitlementStore) -> None:
        self._store = store

    async def get_entitlements(
        self, user_ids: Sequence[str], *, deadline: float
    ) -> list[Entitlements | ServiceError]:
        """All that each is entitled to now, from one read."""
        standings = await self._store.read_standings(set(user_ids), deadline=deadline)
        return [
            entitlements_of(standings[user_id]) if user_id in standings else invalid_user_reference()
            for user_id in user_ids
        ]
