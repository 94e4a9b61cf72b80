"""Whether the database answers."""

from __future__ import annotations

import time

from chassis.postgres import Connection, Database

PROBE_SECONDS_MAXIMUM = 1.0


async def probe(database: Database) -> None:
    """Return if the database answers within a second; raises what `Database.read` raises."""

    async def work(connection: Connection) -> None:
        await connection.execute("SELECT 1")

    await database.read(work, deadline=time.monotonic() + PROBE_SECONDS_MAXIMUM, name="probe")
