"""Licenses in the database: every change is written together with its event and its line of history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from chassis.errors import ServiceError
from chassis.postgres.isolation import Locked
from chassis.postgres import Connection, Database
from subscription_service.domain.accounts import AccountStatus, invalid_user_reference
from subscription_service.domain.licenses import (
    LevelAdvance,
    LevelReached,
    LevelReset,
    License,
    LicenseEvent,
    LicenseOrder,
    LicenseRecord,
)
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.keyed import Keyed, KeyedOutcome, write_keyed
from subscription_service.store.license_reads import read_licenses
from subscription_service.store.locks import lock_learners

CHANNEL = "license_changes"
"""What is notified when licenses have changed; listening only hastens."""

Records = dict[str, LicenseRecord]


class LicenseStore:
    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def change_licenses(
        self, orders: Sequence[LevelReached | LevelReset], *, wait: bool, deadline: float
    ) -> list[License | ServiceError | Locked]:
        """Carry out these in their sequence, each once per event.

        They tell what has happened already, so the account need not be active any more.
        """

        async def work(connection: Connection) -> list[License | ServiceError | Locked]:
            return await self._change(connection, orders, wait=wait)

        return await self._database.write(work, deadline=deadline, name="change_licenses")

    async def advance_licenses(
        self,
        orders: Sequence[Keyed[LevelAdvance]],
        *,
        render: Callable[[License], bytes],
        wait: bool,
        deadline: float,
    ) -> list[KeyedOutcome]:
        """Carry out these in their sequence, each once per key."""

        async def change(
            connection: Connection, orders: Sequence[LevelAdvance]
        ) -> list[License | ServiceError | Locked]:
            return await self._change(connection, orders, wait=wait)

        return await write_keyed(
            self._database, orders, change, render=render, deadline=deadline, name="advance_licenses"
        )

    async def _change(
        self, connection: Connection, orders: Sequence[LicenseOrder], *, wait: bool
    ) -> list[License | ServiceError | Locked]:
        learners = await lock_learners(connection, [order.user_id for order in orders], wait=wait)
        ours = [order for order in orders if order.user_id in learners.statuses]
        records = await self._read(connection, ours) if ours else {}
        outcomes: list[License | ServiceError | Locked] = []
        for order in orders:
            if order.user_id not in learners.statuses:
                outcomes.append(learners.refusal(order.user_id))
            else:
                outcomes.append(_decide(records[order.user_id], order, learners.statuses[order.user_id]))
        await _write(connection, records.values())
        return outcomes

    async def _read(self, connection: Connection, orders: Sequence[LicenseOrder]) -> Records:
        now = await connection.fetchval(
            "SELECT coalesce($1::timestamptz, statement_timestamp())", self._pinned_time()
        )
        records = {order.user_id: LicenseRecord(order.user_id, now) for order in orders}
        for license_ in await read_licenses(
            connection, {(order.user_id, order.specialization) for order in orders}
        ):
            records[license_.user_id].licenses[license_.specialization] = license_
        seen = await connection.fetch(
            """
            SELECT event.user_id, event.specialization, event.event_id
              FROM unnest($1::text[], $2::text[], $3::uuid[]) AS wanted (user_id, specialization, event_id)
             CROSS JOIN LATERAL (SELECT user_id, specialization, event_id
                                   FROM license_events
                                  WHERE user_id = wanted.user_id AND specialization = wanted.specialization
                                    AND event_id = wanted.event_id
                                  LIMIT 1) AS event
            """,
            [order.user_id for order in orders],
            [order.specialization for order in orders],
            [order.event_id for order in orders],
        )
        for row in seen:
            event = LicenseEvent(row["specialization"], row["event_id"])
            records[row["user_id"]].seen_events.add(event)
        return records


def _decide(record: LicenseRecord, order: LicenseOrder, account: AccountStatus) -> License | ServiceError:
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
    events = [(record, event) for record in records for event in record.new_events]
    licenses = [record.licenses[name] for record in records for name in sorted(record.changed)]
    await connection.execute(
        """
        WITH received AS (
            INSERT INTO license_events (user_id, specialization, event_id, received_at)
            SELECT user_id, specialization, event_id, received_at
              FROM unnest($1::text[], $2::text[], $3::uuid[], $4::timestamptz[])
                   AS event (user_id, specialization, event_id, received_at)
        )
        INSERT INTO licenses (user_id, specialization, level, max_level, epoch, updated_at)
        SELECT user_id, specialization, level, max_level, epoch, updated_at
          FROM unnest($5::text[], $6::text[], $7::integer[], $8::integer[], $9::integer[], $10::timestamptz[])
               AS license (user_id, specialization, level, max_level, epoch, updated_at)
            ON CONFLICT ON CONSTRAINT licenses_one_per_specialization DO UPDATE
               SET level = excluded.level, max_level = excluded.max_level, epoch = excluded.epoch,
                   updated_at = excluded.updated_at
        """,
        [record.user_id for record, _ in events],
        [event.specialization for _, event in events],
        [event.event_id for _, event in events],
        [record.now for record, _ in events],
        [license_.user_id for license_ in licenses],
        [license_.specialization for license_ in licenses],
        [license_.level for license_ in licenses],
        [license_.max_level for license_ in licenses],
        [license_.epoch for license_ in licenses],
        [license_.updated_at for license_ in licenses],
    )
    await _write_progressions(connection, records)


async def _write_progressions(connection: Connection, records: Sequence[LicenseRecord]) -> None:
    """Number the changes by this transaction's id, so that readers can tell what is complete."""
    progressions = [progression for record in records for progression in record.progressions]
    if not progressions:
        return
    await connection.execute(
        """
        INSERT INTO license_changes (user_id, sequence, specialization, from_level, to_level, max_level,
                                     changed_by, reason, event_id, changed_at)
        SELECT change.user_id,
               ((feed.origin + pg_current_xact_id()::text::bigint) << 16) + change.place - 1,
               change.specialization, change.from_level, change.to_level, change.max_level,
               change.changed_by, change.reason, change.event_id, change.changed_at
          FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::integer[], $6::text[],
                      $7::text[], $8::uuid[], $9::timestamptz[]) WITH ORDINALITY
               AS change (user_id, specialization, from_level, to_level, max_level, changed_by,
                          reason, event_id, changed_at, place)
         CROSS JOIN license_feed AS feed
        """,
        [progression.user_id for progression in progressions],
        [progression.specialization for progression in progressions],
        [progression.from_level for progression in progressions],
        [progression.to_level for progression in progressions],
        [progression.max_level for progression in progressions],
        [progression.by for progression in progressions],
        [progression.reason for progression in progressions],
        [progression.event_id for progression in progressions],
        [progression.at for progression in progressions],
    )
    await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
