"""The idempotency keys, as the janitor sees them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from chassis.postgres import idempotency
from chassis.postgres.idempotency import Claim
from chassis.postgres import Connection, Database


class KeyStore:
    """Aborts and forgets keys."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def abort_keys(self, claims: Iterable[Claim], *, deadline: float) -> set[Claim]:
        """Make sure that these keys never get an effect; a key missing from the result has one already."""
        wanted = list(claims)

        async def work(connection: Connection) -> set[Claim]:
            return await idempotency.abort(connection, wanted)

        return await self._database.write(work, deadline=deadline, name="abort_keys")

    async def purge_keys(self, older_than: timedelta, limit: int, *, deadline: float) -> int:
        """Forget up to `limit` keys of at least this age; returns how many."""

        async def work(connection: Connection) -> int:
            return await idempotency.purge(connection, older_than, limit)

        return await self._database.write(work, deadline=deadline, name="purge_keys")
