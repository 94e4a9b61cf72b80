"""Licenses in the database: every change is written together with its event and its line of history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, assert_never

from chassis.batch import Item, Outcome, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render, write_keyed
from chassis.postgres.rows import as_rows, names
from subscription_service.domain.accounts import AccountStatus, invalid_user_reference
from subscription_service.domain.licenses import (
    LevelAdvance,
    LevelMirror,
    LevelReached,
    LevelReset,
    License,
    LicenseEvent,
    LicenseOrder,
    LicenseRecord,
    MirroredLicense,
)
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.license_reads import (
    LICENSE,
    LICENSE_COLUMNS,
    PROGRESSION,
    PROGRESSION_COLUMNS,
    read_licenses,
)
from subscription_service.store.locks import LockedLearners, lock_learners

CHANNEL = "license_changes"
"""The channel that is notified when licenses have changed; a notification only makes readers look sooner."""

EVENT = "user_id text, specialization text, event_id uuid, received_at timestamptz"

Records = dict[str, LicenseRecord]

Order = TypeVar("Order", bound=LicenseOrder)
V = TypeVar("V")
# Carries out an order for a learner whose account has this status.
Decide = Callable[[LicenseRecord, Order, AccountStatus], V | ServiceError]


class LicenseStore:
    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def change_licenses(
        self, items: Sequence[Item[LevelReached | LevelReset]], wait: bool
    ) -> list[License | ServiceError | Locked]:
        """Carry out these in their sequence, each once per event.

        They report what has happened already, so the account need not be active any more.
        """

        async def work(connection: Connection) -> list[License | ServiceError | Locked]:
            learners = await lock_learners(connection, [item.request.user_id for item in items], wait=wait)
            return await self._change(connection, learners, [item.request for item in items], _decide)

        return await self._database.write(work, deadline=latest_deadline(items), name="change_licenses")

    async def mirror_levels(
        self, items: Sequence[Item[LevelMirror]], wait: bool
    ) -> list[MirroredLicense | ServiceError | Locked]:
        """Let licenses follow the progress, each once per event; the account need not be active any more."""

        async def work(connection: Connection) -> list[MirroredLicense | ServiceError | Locked]:
            learners = await lock_learners(connection, [item.request.user_id for item in items], wait=wait)
            return await self._change(connection, learners, [item.request for item in items], _mirror)

        return await self._database.write(work, deadline=latest_deadline(items), name="mirror_levels")

    async def advance_licenses(
        self, items: Sequence[Item[LevelAdvance]], wait: bool, *, render: Render[License]
    ) -> list[Outcome | Locked]:
        """Carry out these in their sequence, each once per key."""

        async def lock(connection: Connection, items: Sequence[Item[LevelAdvance]]) -> LockedLearners:
            return await lock_learners(connection, [item.request.user_id for item in items], wait=wait)

        async def change(
            connection: Connection, learners: LockedLearners, items: Sequence[Item[LevelAdvance]]
        ) -> list[License | ServiceError | Locked]:
            return await self._change(connection, learners, [item.request for item in items], _decide)

        return await write_keyed(
            self._database, items, lock=lock, change=change, render=render, name="advance_licenses"
        )

    async def _change(
        self,
        connection: Connection,
        learners: LockedLearners,
        orders: Sequence[Order],
        decide: Decide[Order, V],
    ) -> list[V | ServiceError | Locked]:
        ours = [order for order in orders if order.user_id in learners.statuses]
        records = await self._read(connection, ours) if ours else {}
        outcomes = [
            decide(records[order.user_id], order, learners.statuses[order.user_id])
            if order.user_id in learners.statuses
            else learners.refusal(order.user_id)
            for order in orders
        ]
        await _write(connection, records.values())
        return outcomes

    async def _read(self, connection: Connection, orders: Sequence[LicenseOrder]) -> Records:
        now = await connection.fetchval(
            "SELECT coalesce($1::timestamptz, statement_timestamp())", self._pinned_time()
        )
        records = {order.user_id: LicenseRecord(order.user_id, now) for order in orders}
        for license_ in await read_licenses(connection, orders):
            records[license_.user_id].licenses[license_.specialization] = license_
        seen = await connection.fetch(
            """
            SELECT event.user_id, event.specialization, event.event_id, change.from_level
              FROM json_to_recordset($1) AS wanted (user_id text, specialization text, event_id uuid)
             CROSS JOIN LATERAL (SELECT user_id, specialization, event_id
                                   FROM license_events
                                  WHERE user_id = wanted.user_id AND specialization = wanted.specialization
                                    AND event_id = wanted.event_id
                                  LIMIT 1) AS event
              LEFT JOIN LATERAL (SELECT from_level
                                   FROM license_changes
                                  WHERE user_id = wanted.user_id AND specialization = wanted.specialization
                                    AND event_id = wanted.event_id
                                  LIMIT 1) AS change ON true
            """,
            as_rows(orders),
        )
        for row in seen:
            event = LicenseEvent(row["specialization"], row["event_id"])
            record = records[row["user_id"]]
            record.seen_events.add(event)
            if row["from_level"] is not None:
                record.levels_before[event] = row["from_level"]
        return records


def _mirror(record: LicenseRecord, order: LevelMirror, _account: AccountStatus) -> MirroredLicense:
    return record.mirror(order)


def _decide(
    record: LicenseRecord, order: LevelReached | LevelReset | LevelAdvance, account: AccountStatus
) -> License | ServiceError:
    match order:
        case LevelReached():
            return record.reach(order)
        case LevelReset():
            return record.reset(order)
        case LevelAdvance():
            if account is not AccountStatus.ACTIVE:
                return invalid_user_reference()
            return record.advance(order)
    assert_never(order)


async def _write(connection: Connection, records: Iterable[LicenseRecord]) -> None:
    records = sorted((r for r in records if r.new_events or r.changed), key=lambda record: record.user_id)
    if not records:
        return
    events = [
        {"user_id": record.user_id, "received_at": record.now, **event._asdict()}
        for record in records
        for event in record.new_events
    ]
    licenses = [record.licenses[name] for record in records for name in sorted(record.changed)]
    await connection.execute(_WRITE, as_rows(events), as_rows(licenses))
    progressions = [progression for record in records for progression in record.progressions]
    if progressions:
        await connection.execute(_WRITE_PROGRESSIONS, as_rows(progressions))
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)


_WRITE = f"""
    WITH received AS (
        INSERT INTO license_events ({names(EVENT)})
        SELECT {names(EVENT)}
          FROM json_to_recordset($1) AS event ({EVENT})
    )
    INSERT INTO licenses ({LICENSE_COLUMNS})
    SELECT {LICENSE_COLUMNS}
      FROM json_to_recordset($2) AS license ({LICENSE})
        ON CONFLICT ON CONSTRAINT licenses_one_per_specialization DO UPDATE
           SET level = excluded.level, max_level = excluded.max_level, epoch = excluded.epoch,
               updated_at = excluded.updated_at
"""

# The numbers begin with this transaction's id, so that readers can tell which changes are complete.
_WRITE_PROGRESSIONS = f"""
    INSERT INTO license_changes (sequence, {PROGRESSION_COLUMNS})
    SELECT ((feed.origin + pg_current_xact_id()::text::bigint) << 16) + change.place - 1,
           {names(PROGRESSION, of="change")}
      FROM ROWS FROM (json_to_recordset($1) AS ({PROGRESSION})) WITH ORDINALITY
           AS change ({PROGRESSION_COLUMNS}, place)
     CROSS JOIN license_feed AS feed
"""
