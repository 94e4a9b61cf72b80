"""What this service knows of holds: the sessions that they pay for, their keys, and where the janitor is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from chassis.context import Claim
from chassis.postgres import Connection, Database, idempotency, outbox
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres.rows import as_rows, names
from session_service.domain.holds import HoldName, HoldPosition, OpenHold
from session_service.domain.ids import HoldId
from session_service.domain.sessions import Session
from session_service.store.session_rows import SESSION, SESSION_COLUMNS, session_from


class HoldStore:
    """Reads and writes what decides about holds that their starts have left behind."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def sessions_of_holds(
        self, holds: Sequence[HoldName], *, deadline: float
    ) -> dict[HoldName, Session]:
        """The session that each of these holds pays for; absent where there is none."""

        async def work(connection: Connection) -> dict[HoldName, Session]:
            return await read_sessions_of_holds(connection, holds)

        return await self._database.read(work, deadline=deadline, name="sessions_of_holds")

    async def abort_keys(self, claims: Iterable[Claim], *, deadline: float) -> set[Claim]:
        """Make sure that these keys never get an effect; a key missing from the result has one already."""
        wanted = list(claims)

        async def work(connection: Connection) -> set[Claim]:
            return await idempotency.abort(connection, wanted)

        return await self._database.write(work, deadline=deadline, name="abort_keys")

    async def pending_releases(
        self, topic: str, user_ids: Collection[str], *, deadline: float
    ) -> list[OutboxEvent]:
        """The events of a topic that wait in the outbox for these learners, at most a few for each."""
        return await outbox.pending(self._database, topic, user_ids, deadline=deadline)

    async def read_watermark(self, method: str, *, deadline: float) -> HoldPosition | None:
        """Up to where the holds of this method have been looked at; None before the first look."""

        async def work(connection: Connection) -> HoldPosition | None:
            row = await connection.fetchrow(
                "SELECT placed_at, user_id, hold_id FROM hold_watermarks WHERE method = $1", method
            )
            return None if row is None else HoldPosition(*row)

        return await self._database.read(work, deadline=deadline, name="read_watermark")

    async def advance_watermark(
        self,
        method: str,
        position: HoldPosition | None,
        *,
        settling: timedelta,
        postponed: Collection[OpenHold],
        deadline: float,
    ) -> None:
        """Move the watermark forward to this position, and remember the holds to look at again.

        It never comes closer to the present than `settling`: a hold that is committed late must not appear
        behind it. It never moves back, so that any number of replicas may move it.
        """

        async def work(connection: Connection) -> None:
            if postponed:
                await connection.execute(_POSTPONE, _postponed_rows(postponed))
            if position is not None:
                await connection.execute(_ADVANCE, method, *position, settling)

        await self._database.write(work, deadline=deadline, name="advance_watermark")

    async def due_postponed(self, method: str, limit: int, *, deadline: float) -> list[OpenHold]:
        """Postponed holds that are to be looked at again now."""

        async def work(connection: Connection) -> list[OpenHold]:
            rows = await connection.fetch(
                """
                SELECT user_id, hold_id, method, key, placed_at
                  FROM postponed_holds
                 WHERE method = $1 AND look_again_at <= now()
                 ORDER BY look_again_at
                 LIMIT $2
                """,
                method,
                limit,
            )
            return [OpenHold(*row) for row in rows]

        return await self._database.read(work, deadline=deadline, name="due_postponed")

    async def settle_postponed(
        self, settled: Collection[HoldName], postponed: Collection[OpenHold], *, deadline: float
    ) -> None:
        """Forget the postponed holds that are resolved, and look at the others again later."""

        async def work(connection: Connection) -> None:
            if settled:
                await connection.execute(_FORGET, as_rows([hold._asdict() for hold in sorted(settled)]))
            if postponed:
                await connection.execute(_POSTPONE, _postponed_rows(postponed))

        await self._database.write(work, deadline=deadline, name="settle_postponed")


async def read_sessions_of_holds(
    connection: Connection, holds: Sequence[HoldName]
) -> dict[HoldName, Session]:
    """The session that each of these holds pays for; absent where there is none."""
    rows = await connection.fetch(_SESSIONS_OF_HOLDS, as_rows([hold._asdict() for hold in holds]))
    return {HoldName(row["user_id"], HoldId(row["hold_id"])): session_from(row) for row in rows}


def _postponed_rows(holds: Collection[OpenHold]) -> str:
    """One order for all replicas, so that they cannot deadlock each other."""
    return as_rows(sorted(holds, key=lambda hold: hold.name))


_SESSIONS_OF_HOLDS = f"""
    SELECT {names(SESSION, of="session")}
      FROM json_to_recordset($1) AS wanted (user_id text, hold_id uuid)
     CROSS JOIN LATERAL (
           SELECT {SESSION_COLUMNS}
             FROM sessions
            WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
            LIMIT 1
           ) AS session
"""

_ADVANCE = """
    INSERT INTO hold_watermarks AS kept (method, placed_at, user_id, hold_id)
    SELECT $1, $2::timestamptz, $3::text, $4::uuid
     WHERE $2::timestamptz <= now() - $5::interval
        ON CONFLICT ON CONSTRAINT hold_watermarks_once DO UPDATE
           SET placed_at = excluded.placed_at, user_id = excluded.user_id, hold_id = excluded.hold_id
         WHERE (excluded.placed_at, excluded.user_id, excluded.hold_id)
               > (kept.placed_at, kept.user_id, kept.hold_id)
"""

# The pause doubles from five seconds to about an hour and a half.
_POSTPONE = """
    INSERT INTO postponed_holds AS kept (user_id, hold_id, method, key, placed_at, look_again_at)
    SELECT user_id, hold_id, method, key, placed_at, now() + interval '5 seconds'
      FROM json_to_recordset($1)
           AS hold (user_id text, hold_id uuid, method text, key text, placed_at timestamptz)
        ON CONFLICT ON CONSTRAINT postponed_holds_once DO UPDATE
           SET tries = kept.tries + 1,
               look_again_at = now() + interval '5 seconds' * power(2, least(kept.tries, 10))
"""

_FORGET = """
    DELETE FROM postponed_holds
     USING json_to_recordset($1) AS settled (user_id text, hold_id uuid)
     WHERE postponed_holds.user_id = settled.user_id AND postponed_holds.hold_id = settled.hold_id
"""
