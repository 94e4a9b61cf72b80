"""The XP ledger against its causes: each result and each completed lesson that gave XP has its entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from chassis.diagnostics.checks import Check, Place, Scope, Step, reading
from chassis.diagnostics.findings import Finding
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows
from progress_service.domain.completions import lesson_operation_id
from progress_service.domain.courses import LessonName
from progress_service.domain.statistics import UserId, result_operation_id
from progress_service.store.history import epoch_of

# An import leaves entries without rows of their causes, so an entry without a cause says nothing.
_OF_RESULTS = """
    SELECT user_id, session_id, xp, specialization, closed_at AS earned_at
      FROM session_results
     WHERE xp > 0 AND (answered > 0 OR total = 0) AND {condition}
     ORDER BY user_id, session_id
     LIMIT {limit}
"""
_OF_LESSONS = """
    SELECT completion.user_id, completion.course_id, completion.epoch, completion.module_id,
           completion.lesson_id, completion.xp, coalesce(course.specialization, '') AS specialization,
           completion.occurred_at AS earned_at
      FROM (SELECT user_id, course_id, epoch, module_id, lesson_id, xp, occurred_at
              FROM lesson_completions
             WHERE xp > 0 AND {condition}
             ORDER BY user_id, course_id, epoch, module_id, lesson_id
             LIMIT {limit}) AS completion
      LEFT JOIN courses AS course ON course.course_id = completion.course_id
     ORDER BY completion.user_id, completion.course_id, completion.epoch, completion.module_id,
              completion.lesson_id
"""
_WANTING = f"""
    SELECT due.place, CASE WHEN entry.operation_id IS NOT NULL THEN to_jsonb(entry) END AS before,
           reset.epoch, {epoch_of("due.user_id", "due.specialization")} AS current_epoch
      FROM json_to_recordset($1)
           AS due (place integer, user_id text, operation_id uuid, amount integer, specialization text,
                   earned_at timestamptz)
      LEFT JOIN LATERAL (SELECT *
                           FROM xp_entries
                          WHERE xp_entries.user_id = due.user_id
                            AND xp_entries.operation_id = due.operation_id
                          LIMIT 1) AS entry ON true
     CROSS JOIN LATERAL (SELECT coalesce(max(epoch), 0) AS epoch
                           FROM progress_resets
                          WHERE user_id = due.user_id AND reset_at <= due.earned_at
                            AND (scope = 'all' OR (scope = 'specialization' AND name = due.specialization))
                        ) AS reset
     WHERE entry.operation_id IS NULL OR entry.amount <> due.amount
     ORDER BY due.place
"""


@dataclass(frozen=True, slots=True)
class Due:
    """An entry that the ledger must have, and the key of its cause."""

    user_id: UserId
    operation_id: UUID
    amount: int
    specialization: str
    earned_at: datetime
    cause: dict[str, str]


@dataclass(frozen=True, slots=True)
class Wanting:
    """A due entry that is missing, or that has another amount: then `before` is its row."""

    due: Due
    epoch: int
    current_epoch: int
    before: dict[str, Any] | None

    @property
    def specialization(self) -> str:
        """The specialization of the entry; empty for none."""
        return self.due.specialization if self.before is None else str(self.before["specialization"])

    @property
    def counts(self) -> bool:
        """Whether the entry adds to a level now."""
        epoch = self.epoch if self.before is None else self.before["epoch"]
        return bool(self.specialization) and epoch == self.current_epoch

    @property
    def gained(self) -> int:
        """What the ledger has too little."""
        return self.due.amount - (0 if self.before is None else int(self.before["amount"]))


@dataclass(frozen=True, slots=True)
class Causes:
    """A table whose rows give XP."""

    select: str
    key: tuple[tuple[str, str], ...]
    operation_id: Callable[[asyncpg.Record], UUID]

    def page(self, *, of_one: bool, behind: bool) -> str:
        """A SELECT of causes in the order of their keys: `$1` is the limit, then learner and place."""
        conditions = ["true"]
        first = 2
        if of_one:
            conditions.append("user_id = $2")
            first = 3
        if behind:
            names = ", ".join(name for name, _ in self.key)
            places = ", ".join(f"${first + at}::text::{type_}" for at, (_, type_) in enumerate(self.key))
            conditions.append(f"({names}) > ({places})")
        return self.select.format(condition=" AND ".join(conditions), limit="$1")

    def of_learners(self) -> str:
        """A SELECT of all causes of the learners in `$1`."""
        return self.select.format(condition="user_id = ANY ($1::text[])", limit="ALL")

    def dues(self, rows: Sequence[asyncpg.Record]) -> list[Due]:
        """The entries that these causes must have."""
        return [
            Due(
                user_id=UserId(row["user_id"]),
                operation_id=self.operation_id(row),
                amount=row["xp"],
                specialization=row["specialization"],
                earned_at=row["earned_at"],
                cause={name: str(row[name]) for name, _ in self.key},
            )
            for row in rows
        ]


RESULTS = Causes(
    _OF_RESULTS,
    (("user_id", "text"), ("session_id", "text")),
    lambda row: result_operation_id(row["user_id"], row["session_id"]),
)
LESSONS = Causes(
    _OF_LESSONS,
    (
        ("user_id", "text"),
        ("course_id", "text"),
        ("epoch", "integer"),
        ("module_id", "text"),
        ("lesson_id", "text"),
    ),
    lambda row: lesson_operation_id(
        UserId(row["user_id"]), LessonName(row["module_id"], row["lesson_id"]), epoch=row["epoch"]
    ),
)


class LedgerWalk:
    """A walk through the causes of one table; the ids of their entries are computed here."""

    def __init__(self, database: Database, causes: Causes) -> None:
        self._database = database
        self._causes = causes

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""
        statement = self._causes.page(of_one=bool(scope.user_id), behind=after is not None)
        arguments = [limit, *([scope.user_id] if scope.user_id else []), *(after or ())]

        async def work(connection: Connection) -> tuple[list[Due], list[Wanting]]:
            async with reading(connection, one_snapshot=True):
                dues = self._causes.dues(await connection.fetch(statement, *arguments))
                return dues, await find_wanting(connection, dues)

        dues, wanting = await self._database.read(work, deadline=deadline, name="check_step")
        reached = tuple(dues[-1].cause.values()) if len(dues) == limit else None
        return Step([_finding(check, each) for each in wanting], len(dues), reached)


async def find_wanting(connection: Connection, dues: Sequence[Due]) -> list[Wanting]:
    """Those of these entries that the ledger does not have as they must be."""
    rows = await connection.fetch(
        _WANTING,
        as_rows(
            [
                {
                    "place": place,
                    "user_id": due.user_id,
                    "operation_id": due.operation_id,
                    "amount": due.amount,
                    "specialization": due.specialization,
                    "earned_at": due.earned_at,
                }
                for place, due in enumerate(dues)
            ]
        ),
    )
    return [
        Wanting(
            dues[row["place"]],
            row["epoch"],
            row["current_epoch"],
            None if row["before"] is None else orjson.loads(row["before"]),
        )
        for row in rows
    ]


def _finding(check: Check, wanting: Wanting) -> Finding:
    due, before = wanting.due, wanting.before
    return Finding(
        check=check.check_id,
        severity=check.severity,
        observed="no entry in the ledger" if before is None else f"an entry of {before['amount']} XP",
        expected=f"an entry of {due.amount} XP",
        user_id=due.user_id,
        row=due.cause,
        since=due.earned_at,
        evidence={"operationId": str(due.operation_id), "specialization": due.specialization},
    )
