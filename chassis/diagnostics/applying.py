"""Applying and undoing plans: rows change only if they are as the plan shows them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from uuid import UUID

from chassis import failpoints
from chassis.diagnostics.plans import (
    HASH,
    Plan,
    PlannedRow,
    PlanState,
    RowOutcome,
    find,
    not_found,
    planned_row,
)
from chassis.diagnostics.repairs import Repair, RowChange
from chassis.diagnostics.tables import Rows, Tables
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database, DataRefused, LockTimeout
from chassis.postgres.database import LOCK_TIMEOUT_MS
from chassis.postgres.errors import translate
from chassis.postgres.rows import as_rows

UNITS_PER_BATCH = 50
BATCH_SECONDS_MAX = 5.0
# No further batch begins when a call has less time left than this.
BATCH_SECONDS_MIN = 1.5
# A call answers at most with so many rows; `GetPlan` has all.
ROWS_TOLD_MAX = 500

# A caller waits for the batch of another caller, which takes longer than a learner's lock may be waited for.
_WAIT_FOR_PLAN = f"SET LOCAL TimeZone = 'UTC'; SET LOCAL lock_timeout = {int(BATCH_SECONDS_MAX * 1000)}"
_WAIT_FOR_ROWS = f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
_LOCK_PLAN = """
    SELECT state, hash, expires_at < clock_timestamp() AS expired
      FROM repair_plans
     WHERE plan_id = $1
       FOR UPDATE
"""
_COLUMNS = "ordinal, unit, repair_id, user_id, table_name, before, after, outcome, detail"
_NEXT_TO_APPLY = f"""
    SELECT {_COLUMNS}
      FROM repair_rows
     WHERE plan_id = $1 AND outcome = 'waiting'
       AND unit IN (SELECT DISTINCT unit FROM repair_rows
                     WHERE plan_id = $1 AND outcome = 'waiting' ORDER BY unit LIMIT $2)
     ORDER BY unit, ordinal
"""
# Undoing goes backwards, from the last row that was changed.
_NEXT_TO_UNDO = """
    SELECT planned.ordinal, planned.unit, planned.repair_id, planned.user_id, planned.table_name,
           journal.before, journal.after, planned.outcome, planned.detail
      FROM repair_rows AS planned
      JOIN repair_journal AS journal USING (plan_id, ordinal)
     WHERE plan_id = $1 AND planned.outcome = 'applied'
       AND planned.unit IN (SELECT DISTINCT unit FROM repair_rows
                             WHERE plan_id = $1 AND outcome = 'applied' ORDER BY unit DESC LIMIT $2)
     ORDER BY planned.unit DESC, planned.ordinal DESC
"""
_SET_STATE = "UPDATE repair_plans SET state = $2, changed_at = clock_timestamp() WHERE plan_id = $1"
_END_ROWS = """
    UPDATE repair_rows AS planned
       SET outcome = ended.outcome, detail = ended.detail
      FROM json_to_recordset($2) AS ended (ordinal integer, outcome text, detail text)
     WHERE planned.plan_id = $1 AND planned.ordinal = ended.ordinal
"""
_JOURNAL = """
    INSERT INTO repair_journal
           (plan_id, ordinal, user_id, table_name, before, after, reason, changed_by, changed_at)
    SELECT $1, ordinal, changed.user_id, table_name, before, after, plan.reason, $3, clock_timestamp()
      FROM json_to_recordset($2)
           AS changed (ordinal integer, user_id text, table_name text, before jsonb, after jsonb)
      JOIN repair_plans AS plan ON plan.plan_id = $1
"""
_UNDONE = """
    UPDATE repair_journal
       SET undone_by = $3, undone_at = clock_timestamp()
     WHERE plan_id = $1 AND ordinal = ANY ($2::integer[])
"""


@dataclass(frozen=True, slots=True)
class Order:
    """To apply or undo a plan: the hash stands for the rows that the caller has seen."""

    plan_id: UUID
    hash: str
    by: str


@dataclass(frozen=True, slots=True)
class Worked:
    """What one call has done: the plan as it is now, and the rows that the call has worked on."""

    plan: Plan
    rows: Sequence[PlannedRow]


class Applying:
    """Changes the rows of plans, in batches of units, each in one transaction with its journal.

    Every batch locks the plan first, so that two callers take turns, and a unit is done once. A process that
    is killed leaves whole batches behind, and the next call goes on.

    Args:
        repairs: the repairs of this service by id; rows of tables that they do not name are refused.
        others: rows outside the database that repairs may change, by name.
    """

    def __init__(
        self, database: Database, repairs: Mapping[str, Repair], others: Mapping[str, Rows] | None = None
    ) -> None:
        self._database = database
        self._repairs = repairs
        self._tables = Tables(others)

    async def apply(self, order: Order, *, deadline: float) -> Worked:
        """Apply units until none is left, or until shortly before the deadline.

        Raises:
            ServiceError: NOT_FOUND; VERSION_MISMATCH, if the hash is not that of the plan;
                ILLEGAL_TRANSITION, if the plan has expired or was undone. It raises what `Database` raises,
                too.
        """
        return await self._work(order, _APPLY, deadline)

    async def undo(self, order: Order, *, deadline: float) -> Worked:
        """Restore applied units until none is left, or until shortly before the deadline.

        Raises:
            ServiceError: NOT_FOUND; VERSION_MISMATCH, if the hash is not that of the plan;
                ILLEGAL_TRANSITION, if nothing was applied. It raises what `Database` raises, too.
        """
        return await self._work(order, _UNDO, deadline)

    async def _work(self, order: Order, way: _Way, deadline: float) -> Worked:
        told: list[PlannedRow] = []
        more = True
        while more:
            ended, more = await self._database.write(
                lambda connection: self._batch(connection, order, way),
                deadline=min(deadline, time.monotonic() + BATCH_SECONDS_MAX),
                name=way.name,
            )
            told += ended[: ROWS_TOLD_MAX - len(told)]
            await failpoints.hit_async("repairs.after_batch")
            if deadline - time.monotonic() < BATCH_SECONDS_MIN:
                break

        async def read(connection: Connection) -> Plan | None:
            return await find(connection, order.plan_id)

        plan = await self._database.read(read, deadline=deadline, name="get_plan")
        if plan is None:
            raise not_found()
        return Worked(plan, told)

    async def _batch(self, connection: Connection, order: Order, way: _Way) -> tuple[list[PlannedRow], bool]:
        """One transaction. Returns the rows that have ended, and whether there is more to do."""
        await connection.execute(_WAIT_FOR_PLAN)
        state = await self._locked_state(connection, order, way)
        await connection.execute(_WAIT_FOR_ROWS)
        rows = [planned_row(row) for row in await connection.fetch(way.next, order.plan_id, UNITS_PER_BATCH)]
        if not rows:
            if state is not way.end:
                await connection.execute(_SET_STATE, order.plan_id, way.end)
            return [], False
        if state is not way.under_way:
            await connection.execute(_SET_STATE, order.plan_id, way.under_way)
        ended: list[PlannedRow] = []
        for _, unit in groupby(rows, key=attrgetter("unit")):
            ended += await self._unit(connection, order, way, list(unit))
        await connection.execute(_END_ROWS, order.plan_id, as_rows([_ended(row) for row in ended]))
        return ended, True

    async def _locked_state(self, connection: Connection, order: Order, way: _Way) -> PlanState:
        """Lock the plan, and refuse what must not go on."""
        row = await connection.fetchrow(_LOCK_PLAN, order.plan_id)
        if row is None:
            raise not_found()
        if row["hash"] != order.hash or await connection.fetchval(HASH, order.plan_id) != order.hash:
            raise ServiceError(
                Reason.VERSION_MISMATCH, "The hash is not that of this plan: look at the plan again"
            )
        state = PlanState(row["state"])
        if state not in way.states:
            raise ServiceError(Reason.ILLEGAL_TRANSITION, way.refusal.format(state=state))
        if state is PlanState.PLANNED and row["expired"]:
            raise ServiceError(Reason.ILLEGAL_TRANSITION, "The plan has expired: plan the repair again")
        return state

    async def _unit(
        self, connection: Connection, order: Order, way: _Way, rows: list[PlannedRow]
    ) -> list[PlannedRow]:
        """Change the rows of one unit together; what one of them refuses, all of them are spared."""
        await connection.execute("SAVEPOINT unit")
        try:
            changed: list[dict[str, object]] = []
            await self._lock(connection, rows)
            for row in rows:
                refusal = await self._change(connection, way, row, changed)
                if refusal:
                    await connection.execute("ROLLBACK TO SAVEPOINT unit")
                    return _all(rows, way.spared, refusal)
            await way.record(connection, order, changed)
        except Exception as error:
            problem = translate(error)
            if not isinstance(problem, DataRefused | LockTimeout):
                raise
            await connection.execute("ROLLBACK TO SAVEPOINT unit")
            if isinstance(problem, LockTimeout):
                return _all(rows, way.spared, "Somebody else was changing a row at this moment")
            return _all(rows, way.failed, str(problem))
        await connection.execute("RELEASE SAVEPOINT unit")
        return _all(rows, way.done, "")

    async def _lock(self, connection: Connection, rows: Sequence[PlannedRow]) -> None:
        """Keep the service's operations away from the learners of a unit, where a repair asks for it."""
        locks = {
            (row.change.user_id, repair.lock)
            for row in rows
            if (repair := self._repairs.get(row.repair_id)) is not None and repair.lock
        }
        for user_id, lock in sorted(locks):
            await connection.execute(lock, user_id)

    async def _change(
        self, connection: Connection, way: _Way, row: PlannedRow, changed: list[dict[str, object]]
    ) -> str:
        """Change one row. Returns why it must stay as it is, or ''."""
        repair = self._repairs.get(row.repair_id)
        if repair is None or row.change.table not in repair.tables:
            return f"The repair {row.repair_id} does not change {row.change.table}"
        change = way.change_of(row.change, repair)
        table = await self._tables.get(connection, change.table)
        if change.before is None:
            after = await table.insert(connection, change.after or {})
            if after is None:
                return f"{change.table}: the row exists already"
        else:
            unchanged = await table.lock(connection, change.before)
            if unchanged is None:
                return f"{change.table}: the row is gone"
            if not unchanged:
                return f"{change.table}: the row has changed since"
            after = await table.replace(connection, change.before, change.after)
        changed.append(
            {
                "ordinal": row.ordinal,
                "user_id": change.user_id,
                "table_name": change.table,
                "before": change.before,
                "after": after,
            }
        )
        return ""


class _Way(ABC):
    """Applying, or undoing: what the two do differently."""

    name: str
    next: str
    states: frozenset[PlanState]
    under_way: PlanState
    end: PlanState
    refusal: str
    done: RowOutcome
    spared: RowOutcome
    failed: RowOutcome

    @abstractmethod
    def change_of(self, change: RowChange, repair: Repair) -> RowChange:
        """What is done to a row: the planned change, or its reverse."""

    @abstractmethod
    async def record(
        self, connection: Connection, order: Order, changed: Sequence[Mapping[str, object]]
    ) -> None:
        """Tell the journal, in the transaction of the change."""


class _Apply(_Way):
    name = "apply_repair"
    next = _NEXT_TO_APPLY
    states = frozenset({PlanState.PLANNED, PlanState.APPLYING, PlanState.APPLIED})
    under_way = PlanState.APPLYING
    end = PlanState.APPLIED
    refusal = "The plan is {state}: it cannot be applied any more"
    done = RowOutcome.APPLIED
    spared = RowOutcome.SKIPPED
    failed = RowOutcome.FAILED

    def change_of(self, change: RowChange, repair: Repair) -> RowChange:  # noqa: ARG002 - see `_Undo`
        return change

    async def record(
        self, connection: Connection, order: Order, changed: Sequence[Mapping[str, object]]
    ) -> None:
        await connection.execute(_JOURNAL, order.plan_id, as_rows(list(changed)), order.by)


class _Undo(_Way):
    name = "undo_repair"
    next = _NEXT_TO_UNDO
    states = frozenset({PlanState.APPLYING, PlanState.APPLIED, PlanState.UNDOING, PlanState.UNDONE})
    under_way = PlanState.UNDOING
    end = PlanState.UNDONE
    refusal = "The plan is {state}: there is nothing to take back"
    done = RowOutcome.UNDONE
    spared = RowOutcome.KEPT
    failed = RowOutcome.KEPT

    def change_of(self, change: RowChange, repair: Repair) -> RowChange:
        restored, version = change.before, repair.versions.get(change.table)
        if version is not None and restored is not None and change.after is not None:
            restored = version.raised(restored, after=change.after)
        return RowChange(change.table, change.user_id, change.after, restored)

    async def record(
        self, connection: Connection, order: Order, changed: Sequence[Mapping[str, object]]
    ) -> None:
        await connection.execute(_UNDONE, order.plan_id, [row["ordinal"] for row in changed], order.by)


_APPLY = _Apply()
_UNDO = _Undo()


def _all(rows: Sequence[PlannedRow], outcome: RowOutcome, detail: str) -> list[PlannedRow]:
    return [
        PlannedRow(row.ordinal, row.unit, row.repair_id, row.change, outcome, detail[:500]) for row in rows
    ]


def _ended(row: PlannedRow) -> dict[str, object]:
    return {"ordinal": row.ordinal, "outcome": row.outcome, "detail": row.detail}
