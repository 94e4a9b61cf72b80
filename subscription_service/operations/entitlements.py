"""Showing what learners are entitled to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres.isolation import run_reads
from subscription_service.domain.accounts import invalid_user_reference
from subscription_service.domain.entitlements import NOTHING, EntitlementChange, Entitlements, entitlements_of
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

    async def read_changes(
        self, items: Sequence[Item[Sequence[str]]]
    ) -> list[list[EntitlementChange | ServiceError] | ServiceError]:
        """For each request, the outcome of each of its learners: one who cannot be read is refused alone.

        Raises ServiceError when no learner can be read.
        """

        async def read(user_ids: Sequence[str], *, deadline: float) -> list[EntitlementChange]:
            standings = await self._store.read_standings(set(user_ids), deadline=deadline)
            return [
                EntitlementChange.of(entitlements_of(standings[user_id])) if user_id in standings else NOTHING
                for user_id in user_ids
            ]

        return [await run_reads(item.request, partial(read, deadline=item.deadline)) for item in items]
