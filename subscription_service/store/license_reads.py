"""Licenses, their histories and the feed of all changes, as they are read."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows, from_row, names
from chassis.rpc.paging import Page
from subscription_service.domain.accounts import ListOwner
from subscription_service.domain.licenses import (
    AgedLicense,
    License,
    LicenseOrder,
    LicenseSelection,
    Origin,
    Progression,
    SequencedProgression,
)

LICENSE = """user_id text, specialization text, level integer, max_level integer, epoch integer,
             updated_at timestamptz"""
LICENSE_COLUMNS = names(LICENSE)
PROGRESSION = """user_id text, specialization text, from_level integer, to_level integer, max_level integer,
                 changed_by text, reason text, event_id uuid, changed_at timestamptz, epoch integer,
                 origin text"""
PROGRESSION_COLUMNS = names(PROGRESSION)


async def read_licenses(connection: Connection, orders: Sequence[LicenseOrder]) -> list[License]:
    """The existing ones of the licenses that these orders name."""
    rows = await connection.fetch(
        f"""
        SELECT DISTINCT {names(LICENSE, of="license")}
          FROM json_to_recordset($1) AS wanted (user_id text, specialization text)
         CROSS JOIN LATERAL (SELECT {LICENSE_COLUMNS}
                               FROM licenses
                              WHERE user_id = wanted.user_id AND specialization = wanted.specialization
                              LIMIT 1) AS license
        """,
        as_rows(orders),
    )
    return [from_row(License, row) for row in rows]


class LicenseReader:
    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def list_licenses(self, item: Item[ListOwner], page: Page) -> list[License]:
        """A learner's licenses by specialization."""
        (after,) = page.after or ("",)

        async def work(connection: Connection) -> list[License]:
            rows = await connection.fetch(
                f"""
                SELECT {LICENSE_COLUMNS}
                  FROM licenses
                 WHERE user_id = $1 AND specialization > $2
                 ORDER BY specialization
                 LIMIT $3
                """,
                item.request.user_id,
                after,
                page.limit,
            )
            return [from_row(License, row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_licenses")

    async def list_history(self, item: Item[str], page: Page) -> list[SequencedProgression]:
        """The changes of the caller's license in a specialization, newest first."""
        (before,) = page.after or (None,)

        async def work(connection: Connection) -> list[SequencedProgression]:
            rows = await connection.fetch(
                f"""
                SELECT sequence, {PROGRESSION_COLUMNS}
                  FROM license_changes
                 WHERE user_id = $1 AND specialization = $2 AND ($3::bigint IS NULL OR sequence < $3)
                 ORDER BY sequence DESC
                 LIMIT $4
                """,
                item.user_id,
                item.request,
                before,
                page.limit,
            )
            return [_progression(row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_license_history")

    async def list_levels(self, item: Item[LicenseSelection], page: Page) -> list[AgedLicense]:
        """Licenses by specialization, then by learner, with their ages; the bytes of the texts decide."""
        wanted = item.request
        specialization, user_id = map(str, page.after or wanted.after or ("", ""))

        async def work(connection: Connection) -> list[AgedLicense]:
            if wanted.user_id is not None:
                rows = await connection.fetch(
                    _LEVELS_OF_A_LEARNER, wanted.user_id, wanted.specialization, specialization, page.limit
                )
            elif wanted.specialization is None:
                rows = await connection.fetch(_LEVELS, specialization, user_id, page.limit)
            elif specialization > wanted.specialization:
                rows = []
            else:
                after = user_id if specialization == wanted.specialization else ""
                rows = await connection.fetch(
                    _LEVELS_OF_A_SPECIALIZATION, wanted.specialization, after, page.limit
                )
            return [AgedLicense(from_row(License, row), row["age_seconds"]) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_license_levels")

    async def read_feed(self, *, after: int, limit: int, deadline: float) -> list[SequencedProgression]:
        """The changes of all licenses after a sequence number, as far as they are complete.

        A lower number cannot appear later: the numbers begin with the id of the writing transaction, and all
        transactions below the horizon have ended.
        """

        async def work(connection: Connection) -> list[SequencedProgression]:
            rows = await connection.fetch(
                f"""
                SELECT change.sequence, {names(PROGRESSION, of="change")}
                  FROM license_changes AS change
                 WHERE change.sequence > $1
                   AND change.sequence < (
                       SELECT (origin + pg_snapshot_xmin(pg_current_snapshot())::text::bigint) << 16
                         FROM license_feed)
                 ORDER BY change.sequence
                 LIMIT $2
                """,
                after,
                limit,
            )
            return [_progression(row) for row in rows]

        return await self._database.read(work, deadline=deadline, name="read_license_feed")


async def raise_feed_origin(database: Database, *, deadline: float) -> None:
    """Keep sequence numbers rising after a restore into a cluster whose transaction ids are lower."""
    await database.execute_write(
        """
        UPDATE license_feed AS feed
           SET origin = newest.number + 1 - pg_current_xact_id()::text::bigint
          FROM (SELECT coalesce(max(sequence), 0) >> 16 AS number FROM license_changes) AS newest
         WHERE newest.number >= feed.origin + pg_current_xact_id()::text::bigint
        """,
        deadline=deadline,
        name="raise_license_feed_origin",
    )


_AGED = f"{LICENSE_COLUMNS}, extract(epoch FROM clock_timestamp() - updated_at)::float8 AS age_seconds"
# The collation is that of the index licenses_in_order.
_LEVELS = f"""
    SELECT {_AGED}
      FROM licenses
     WHERE (specialization COLLATE "C", user_id COLLATE "C") > ($1, $2)
     ORDER BY specialization COLLATE "C", user_id COLLATE "C"
     LIMIT $3
"""
_LEVELS_OF_A_SPECIALIZATION = f"""
    SELECT {_AGED}
      FROM licenses
     WHERE specialization COLLATE "C" = $1 AND user_id COLLATE "C" > $2
     ORDER BY user_id COLLATE "C"
     LIMIT $3
"""
_LEVELS_OF_A_LEARNER = f"""
    SELECT {_AGED}
      FROM licenses
     WHERE user_id = $1 AND ($2::text IS NULL OR specialization = $2) AND specialization COLLATE "C" > $3
     ORDER BY specialization COLLATE "C"
     LIMIT $4
"""


def _progression(row: asyncpg.Record) -> SequencedProgression:
    origin = None if row["origin"] is None else Origin(row["origin"])
    return SequencedProgression(row["sequence"], from_row(Progression, row, origin=origin))
