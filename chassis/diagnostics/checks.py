"""Checks: data, and a walk through a store in bounded steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import orjson

from chassis.diagnostics.findings import EVIDENCE_ENTRIES_MAX, TEXT_CHARACTERS_MAX, Finding, Severity
from chassis.postgres import Connection, Database
from chassis.postgres.rows import names
from chassis.postgres.transactions import read_only

STATEMENT_SECONDS_MAX = 5.0
"""A step that takes longer is cancelled by the database, and tried again with fewer rows."""

Place = tuple[str, ...]
"""Where a walk is: the key of the last row that it has looked at, as texts."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is walked: all rows, or those of one learner."""

    user_id: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step found. `reached` is None at the end of the walk."""

    findings: Sequence[Finding]
    walked: int
    reached: Place | None


class Walk(Protocol):
    """A way through a store, in the order of a key."""

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """Look at the next `limit` rows behind a place. `deadline` is on the monotonic clock.

        Raises ServiceError, and what `Database` raises.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What is looked for, and what it means.

    Args:
        check_id: stable, such as "session.ghost"; the first word is the short name of the service.
        meaning: what it means for a learner, in one sentence.
        age: nothing younger is a finding, because work under way may look the same.
        repairs: the ids of the repairs that mend it; the first is the usual one.
        advice: what a person must do, if no repair can mend it.
    """

    check_id: str
    severity: Severity
    meaning: str
    walk: Walk
    age: timedelta = timedelta(0)
    repairs: tuple[str, ...] = ()
    advice: str = ""


class SqlWalk:
    """A walk through one table, with one statement for each step, in one snapshot of the store.

    Args:
        database: the store.
        table: the table that is walked, such as "sessions".
        key: its columns that order the walk, with their types, as in "user_id text, session_id uuid". An
            index must begin with them. They must identify a row.
        find: a SELECT of the findings from the relation `step`, which has all columns of the rows of this
            step. Its columns are `user_id` text, `row` jsonb (the key columns), `observed` text, `expected`
            text, `since` timestamptz (NULL: no age guard) and `evidence` jsonb. `$1` is the age of the check,
            as an interval.
        where: a condition on the table, which an index supports; empty for all rows.
        learner: the column with the learner; empty for a table that has none. A run for one learner then
            passes over the table.
    """

    def __init__(
        self,
        database: Database,
        *,
        table: str,
        key: str,
        find: str,
        where: str = "",
        learner: str = "user_id",
    ) -> None:
        self._database = database
        self._learner = learner
        self._statements = {
            (behind, of_one): _statement(
                table=table,
                key=key,
                find=find,
                where=where,
                learner=learner if of_one else "",
                behind=behind,
            )
            for behind in (False, True)
            for of_one in (False, True)
        }

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""
        if scope.user_id and not self._learner:
            return Step([], 0, None)
        statement = self._statements[after is not None, bool(scope.user_id)]
        arguments = [check.age, limit, *([scope.user_id] if scope.user_id else []), *(after or ())]

        async def work(connection: Connection) -> Step:
            async with reading(connection):
                (row,) = await connection.fetch(statement, *arguments)
            found = [found_from(check, each) for each in orjson.loads(row["found"])]
            more = row["walked"] == limit
            return Step(found, row["walked"], tuple(orjson.loads(row["reached"])) if more else None)

        return await self._database.read(work, deadline=deadline, name="check_step")


def reading(connection: Connection, *, one_snapshot: bool = False) -> AbstractAsyncContextManager[None]:
    """A transaction that reads much (`read_only`): a limit for each statement, and one form of times."""
    return read_only(
        connection,
        f"SET LOCAL statement_timeout = {int(STATEMENT_SECONDS_MAX * 1000)}; "
        "SET LOCAL jit = off; SET LOCAL TimeZone = 'UTC'",
        one_snapshot=one_snapshot,
    )


def found_from(check: Check, row: Mapping[str, object]) -> Finding:
    """The finding in a row with the columns that `SqlWalk` describes. Long texts are cut."""
    since = row.get("since")
    return Finding(
        check=check.check_id,
        severity=check.severity,
        observed=_text(row["observed"]),
        expected=_text(row["expected"]),
        user_id=_text(row["user_id"]),
        row=_texts(row["row"]),
        since=None if since is None else datetime.fromisoformat(str(since)),
        evidence=_texts(row["evidence"]),
    )


def _statement(*, table: str, key: str, find: str, where: str, learner: str, behind: bool) -> str:
    columns = [column.split(maxsplit=1) for column in key.split(",")]
    key_names = names(key)
    conditions = [f"({where})"] if where else []
    first = 3
    if learner:
        conditions.append(f"{learner} = $3")
        first = 4
    if behind:
        places = ", ".join(f"${first + at}::text::{type_}" for at, (_, type_) in enumerate(columns))
        conditions.append(f"({key_names}) > ({places})")
    condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    last = ", ".join(f"{name} DESC" for name, _ in columns)
    as_texts = ", ".join(f"{name}::text" for name, _ in columns)
    return f"""
        WITH step AS MATERIALIZED (
            SELECT * FROM {table} {condition} ORDER BY {key_names} LIMIT $2
        ), found AS (
            SELECT user_id, row, observed, expected, since, evidence FROM ({find}) AS each
             WHERE since IS NULL OR since < clock_timestamp() - $1::interval
        )
        SELECT (SELECT count(*) FROM step) AS walked,
               (SELECT to_json(ARRAY[{as_texts}]) FROM step ORDER BY {last} LIMIT 1) AS reached,
               (SELECT coalesce(json_agg(found), '[]') FROM found) AS found
    """


def _text(value: object) -> str:
    return "" if value is None else str(value)[:TEXT_CHARACTERS_MAX]


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    entries = list(value.items())[:EVIDENCE_ENTRIES_MAX]
    return {str(name): _text(each) for name, each in entries}
