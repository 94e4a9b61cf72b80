"""Plans of repairs as they are stored: a head, its rows, and the hash that stands for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson

from chassis.diagnostics.repairs import RowChange
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows
from chassis.rpc.paging import Page

PLAN_HOURS = 24
"""A plan cannot be applied after that."""


class PlanState(StrEnum):
    PLANNED = "planned"
    APPLYING = "applying"
    APPLIED = "applied"
    UNDOING = "undoing"
    UNDONE = "undone"


class RowOutcome(StrEnum):
    WAITING = "waiting"
    APPLIED = "applied"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNDONE = "undone"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class PlanCounts:
    """The rows of a plan, by what became of them."""

    rows: int = 0
    applied: int = 0
    skipped: int = 0
    failed: int = 0
    undone: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The head of a plan; see Plan in diagnostics.proto."""

    plan_id: UUID
    check_id: str
    repair_id: str
    user_id: str
    reason: str
    state: PlanState
    hash: str
    is_partial: bool
    left_out: Sequence[str]
    created_by: str
    created_at: datetime
    expires_at: datetime
    counts: PlanCounts = field(default_factory=PlanCounts)


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One row of a plan. `ordinal` numbers the rows of a plan in the order in which they are changed."""

    ordinal: int
    unit: int
    repair_id: str
    change: RowChange
    outcome: RowOutcome = RowOutcome.WAITING
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that is to be stored."""

    plan_id: UUID
    check_id: str
    repair_id: str
    user_id: str
    reason: str
    created_by: str
    rows: Sequence[PlannedRow]
    left_out: Sequence[str]
    is_partial: bool


_HEAD = """
    plan_id, check_id, repair_id, user_id, reason, state, hash, is_partial, left_out, created_by, created_at,
    expires_at
"""
_COUNTED = """
    (SELECT count(*) AS rows,
            count(*) FILTER (WHERE outcome = 'applied') AS applied,
            count(*) FILTER (WHERE outcome = 'skipped') AS skipped,
            count(*) FILTER (WHERE outcome = 'failed') AS failed,
            count(*) FILTER (WHERE outcome = 'undone') AS undone,
            count(*) FILTER (WHERE outcome = 'kept') AS kept
       FROM repair_rows
      WHERE repair_rows.plan_id = plan.plan_id) AS counted
"""
_SELECT = f"""
    SELECT plan.*, counted.*
      FROM (SELECT {_HEAD} FROM repair_plans %s) AS plan
     CROSS JOIN LATERAL {_COUNTED}
"""
_FIND = _SELECT % "WHERE plan_id = $1"
_LIST = (
    _SELECT % "WHERE (created_at, plan_id) < ($1, $2) ORDER BY created_at DESC, plan_id DESC LIMIT $3"
) + " ORDER BY plan.created_at DESC, plan.plan_id DESC"
_ROWS = """
    SELECT ordinal, unit, repair_id, user_id, table_name, before, after, outcome, detail
      FROM repair_rows
     WHERE plan_id = $1 AND ordinal > $2
     ORDER BY ordinal
     LIMIT $3
"""
_ROW = """
    ordinal integer, unit integer, repair_id text, user_id text, table_name text, before jsonb, after jsonb
"""
_INSERT_ROWS = f"""
    INSERT INTO repair_rows (plan_id, ordinal, unit, repair_id, user_id, table_name, before, after)
    SELECT $1, ordinal, unit, repair_id, user_id, table_name, before, after
      FROM json_to_recordset($2) AS planned ({_ROW})
"""
_INSERT = f"""
    INSERT INTO repair_plans ({_HEAD}, changed_at)
    VALUES ($1, $2, $3, $4, $5, 'planned', repeat('0', 64), $6, $7, $8, clock_timestamp(),
            clock_timestamp() + $9::interval, clock_timestamp())
"""
# jsonb has one text for equal values, so the hash of the stored rows can be computed again.
HASH = """
    SELECT encode(sha256(convert_to(concat($1::uuid::text, string_agg(
               concat_ws('|', ordinal, unit, repair_id, user_id, table_name, coalesce(before::text, '-'),
                         coalesce(after::text, '-')),
               E'\\n' ORDER BY ordinal)), 'UTF8')), 'hex')
      FROM repair_rows
     WHERE plan_id = $1
"""
_SET_HASH = f"UPDATE repair_plans SET hash = ({HASH}) WHERE plan_id = $1"


async def store(connection: Connection, draft: Draft) -> Plan:
    """Keep a plan, inside the caller's transaction."""
    await connection.execute(
        _INSERT,
        draft.plan_id,
        draft.check_id,
        draft.repair_id,
        draft.user_id,
        draft.reason,
        draft.is_partial,
        [line[:500] for line in draft.left_out][:100],
        draft.created_by,
        timedelta(hours=PLAN_HOURS),
    )
    await connection.execute(_INSERT_ROWS, draft.plan_id, as_rows([_stored(row) for row in draft.rows]))
    await connection.execute(_SET_HASH, draft.plan_id)
    plan = await find(connection, draft.plan_id)
    assert plan is not None  # noqa: S101 - it was inserted above
    return plan


async def find(connection: Connection, plan_id: UUID) -> Plan | None:
    """The plan with this id, or None."""
    row = await connection.fetchrow(_FIND, plan_id)
    return None if row is None else _plan(row)


class PlanStore:
    """Reads plans. Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, plan_id: UUID, *, deadline: float) -> Plan:
        """Raises ServiceError: NOT_FOUND."""

        async def work(connection: Connection) -> Plan | None:
            return await find(connection, plan_id)

        plan = await self._database.read(work, deadline=deadline, name="get_plan")
        if plan is None:
            raise not_found()
        return plan

    async def list_rows(self, plan_id: UUID, page: Page, *, deadline: float) -> list[PlannedRow]:
        """The rows of one page, in their order."""
        after = -1 if page.after is None else int(page.after[0])

        async def work(connection: Connection) -> list[PlannedRow]:
            return [planned_row(row) for row in await connection.fetch(_ROWS, plan_id, after, page.limit)]

        return await self._database.read(work, deadline=deadline, name="list_planned_rows")

    async def list_plans(self, page: Page, *, deadline: float) -> list[Plan]:
        """The plans of one page, the newest first."""
        moment, plan_id = page.after or ("2100-01-01T00:00:00+00:00", "ffffffff-ffff-ffff-ffff-ffffffffffff")
        before = datetime.fromisoformat(str(moment)), UUID(str(plan_id))

        async def work(connection: Connection) -> list[Plan]:
            return [_plan(row) for row in await connection.fetch(_LIST, *before, page.limit)]

        return await self._database.read(work, deadline=deadline, name="list_plans")


def not_found() -> ServiceError:
    return ServiceError(Reason.NOT_FOUND, "There is no such plan")


def planned_row(row: Any) -> PlannedRow:
    """The row of a plan in a row of the table."""
    before, after = row["before"], row["after"]
    change = RowChange(
        table=row["table_name"],
        user_id=row["user_id"],
        before=None if before is None else orjson.loads(before),
        after=None if after is None else orjson.loads(after),
    )
    return PlannedRow(
        ordinal=row["ordinal"],
        unit=row["unit"],
        repair_id=row["repair_id"],
        change=change,
        outcome=RowOutcome(row["outcome"]),
        detail=row["detail"],
    )


def _plan(row: Any) -> Plan:
    return Plan(
        plan_id=row["plan_id"],
        check_id=row["check_id"],
        repair_id=row["repair_id"],
        user_id=row["user_id"],
        reason=row["reason"],
        state=PlanState(row["state"]),
        hash=row["hash"],
        is_partial=row["is_partial"],
        left_out=row["left_out"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        counts=PlanCounts(*(row[name] for name in PlanCounts.__dataclass_fields__)),
    )


def _stored(row: PlannedRow) -> dict[str, Any]:
    return {
        "ordinal": row.ordinal,
        "unit": row.unit,
        "repair_id": row.repair_id,
        "user_id": row.change.user_id,
        "table_name": row.change.table,
        "before": row.change.before,
        "after": row.change.after,
    }
