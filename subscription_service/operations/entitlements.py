"""Showing what learners are entitled to."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from subscription_service.domain.accounts import invalid_user_reference
from subscription_service.domain.entitlements import Entitlements, entitlements_of
from subscription_service.store.entitlements import EntitlementStore


class EntitlementOperations:
    def __init__(self, *, store: EntitlementStore) -> None:
        self._store = store

    async def get_entitlements(self, items: Sequence[Item[str]]) -> list[Entitlements | ServiceError]:
        """Everything that each of these learners is entitled to now, from one read."""
        user_ids = {item.request for item in items}
        standings = await self._store.read_standings(user_ids, deadline=latest_deadline(items))
        return [
            entitlements_of(standings[item.request])
            if item.request in standings
            else invalid_user_reference()
            for item in items
        ]
