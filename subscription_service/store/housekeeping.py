"""Rows that have had their day."""

from __future__ import annotations

from datetime import timedelta

from chassis.postgres import idempotency
from chassis.postgres import Connection, Database


class HousekeepingStore:
    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def purge_idempotency_keys(self, *, older_than: timedelta, limit: int, deadline: float) -> int:
        """Forget the answers of the oldest keyed calls; returns how many were forgotten."""

        async def work(connection: Connection) -> int:
            return await idempotency.purge(connection, older_than, limit)

        return await self._database.write(work, deadline=deadline, name="purge_idempotency_keys")
