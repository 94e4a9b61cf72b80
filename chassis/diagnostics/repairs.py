"""Repairs: what changes which rows, and how. A repair only plans; `applying` changes rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding
from chassis.postgres import Connection
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres.rows import as_rows

UNIT_ROWS_MAX = 500
"""Rows that change together in one transaction."""

Row = Mapping[str, Any]
"""A row as `to_jsonb` shows it, with all its columns."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row before and after. None before: it is created. None after: it is removed."""

    table: str
    user_id: str
    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that change together, or not at all; they are changed in this order."""

    changes: Sequence[RowChange]


@dataclass(frozen=True, slots=True)
class Planned:
    """What a repair would change. `left_out` says what it cannot mend, and why, one line for each."""

    units: Sequence[Unit]
    left_out: Sequence[str] = ()


# Reads the rows that have to change, in one snapshot of the store, and changes nothing. The findings are
# those of the checks that name the repair; a repair that needs no check gets none.
Plan = Callable[[Connection, Sequence[Finding], Scope], Awaitable[Planned]]


@dataclass(frozen=True, slots=True)
class Version:
    """The column that numbers the versions of a row, and the column with the time of the last one."""

    column: str = "version"
    changed_at: str = "updated_at"

    def raised(self, restored: Row, *, after: Row) -> Row:
        """The restored row with a version of its own, behind that of the row `after` the repair."""
        return {
            **restored,
            self.column: after[self.column] + 1,
            self.changed_at: after[self.changed_at],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A way to mend something.

    Args:
        repair_id: stable, such as "subscription.recompute_days".
        meaning: what it changes, in one sentence.
        tables: the tables whose rows it may change.
        needs_check: whether it mends what a check has found. Else it is planned for a learner.
        lock: a statement that locks the learner `$1`, for a service whose operations lock a learner first
            and then write what they have read. It runs before the rows of a unit are compared and changed.
        versions: the versions that the repair raises, by table. Undoing raises them once more: a process, a
            cache or a client may have kept what had the number that the repair gave.
    """

    repair_id: str
    meaning: str
    tables: tuple[str, ...]
    plan: Plan
    needs_check: bool = True
    lock: str = ""
    versions: Mapping[str, Version] = field(default_factory=dict)


_FOUND = "(user_id text, row jsonb, observed text, expected text, evidence jsonb)"


def planned_by(sql: str) -> Plan:
    """A plan that one statement makes.

    Args:
        sql: a SELECT from the relation `found` (user_id text, row jsonb, observed text, expected text,
            evidence jsonb), which has the findings. `$2` is the learner of the scope, or ''. Its columns are
            `unit` text (rows with the same text change together), `user_id` text, `table_name` text, `before`
            jsonb and `after` jsonb. It is ordered as the rows are to be changed.
    """
    statement = f"""
        WITH found AS (SELECT * FROM json_to_recordset($1) AS found {_FOUND})
        SELECT unit, user_id, table_name, before, after
          FROM ({sql}) AS each
         WHERE before IS DISTINCT FROM after AND $2::text IS NOT NULL
    """

    async def plan(connection: Connection, findings: Sequence[Finding], scope: Scope) -> Planned:
        told = as_rows([_told(finding) for finding in findings])
        rows = await connection.fetch(statement, told, scope.user_id)
        units: dict[str, list[RowChange]] = {}
        for row in rows:
            units.setdefault(row["unit"], []).append(
                RowChange(row["table_name"], row["user_id"], _row(row["before"]), _row(row["after"]))
            )
        return Planned([Unit(changes) for changes in units.values()])

    return plan


def outbox_row(event: OutboxEvent, *, now: datetime) -> dict[str, Any]:
    """The row of an event as it is created. The relay delivers it soon after the repair is applied."""
    moment = now.astimezone(UTC).isoformat()
    return {
        "user_id": event.user_id,
        "event_id": str(event.event_id),
        "topic": event.topic,
        "payload": "\\x" + event.payload.hex(),
        "traceparent": event.traceparent,
        "created_at": moment,
        "available_at": moment,
        "attempts": 0,
        "leased_until": None,
        "last_error": None,
        "parked_at": None,
    }


def _told(finding: Finding) -> dict[str, Any]:
    told = asdict(finding)
    return {name: told[name] for name in ("user_id", "row", "observed", "expected", "evidence")}


def _row(value: str | None) -> Row | None:
    return None if value is None else orjson.loads(value)
