"""The constraints of tables, verified by queries: a row may be there that its table refuses today.

A constraint that was added NOT VALID, rows that were written while triggers were switched off, and an index
that was damaged (such as by a new sort order of the operating system) let such rows be. Exclusion
constraints are not verified, and neither is what the database no longer knows: a constraint that was dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from chassis.diagnostics.checks import Check, Place, Scope, Step, found_from, reading
from chassis.diagnostics.findings import Severity
from chassis.postgres import Connection, Database

ADVICE = (
    "Look at the row and at the definition of the constraint. Correct the row by the API if it can be, "
    "else restore it from a backup. If an index is damaged, REINDEX it after the rows are right."
)

_TABLE = """
    WITH walked AS (
        SELECT to_regclass($1) AS oid
    ), index_columns AS (
        SELECT index.indexrelid, attribute.attname, column_.place
          FROM walked
          JOIN pg_index AS index ON index.indrelid = walked.oid
         CROSS JOIN unnest(index.indkey) WITH ORDINALITY AS column_ (number, place)
          JOIN pg_attribute AS attribute
            ON attribute.attrelid = walked.oid AND attribute.attnum = column_.number
         WHERE index.indisprimary
    ), key_columns AS (
        SELECT wanted.name, wanted.place
          FROM unnest($2::text[]) WITH ORDINALITY AS wanted (name, place)
        UNION ALL
        SELECT attname, place FROM index_columns WHERE cardinality($2::text[]) = 0
    )
    SELECT walked.oid::regclass::text AS name,
           ARRAY(SELECT name FROM key_columns ORDER BY place) AS key_names,
           ARRAY(SELECT quote_ident(name) FROM key_columns ORDER BY place) AS key,
           ARRAY(SELECT format_type(atttypid, atttypmod)
                   FROM key_columns
                   JOIN pg_attribute ON attrelid = walked.oid AND attname = key_columns.name
                  ORDER BY place) AS types,
           ARRAY(SELECT quote_ident(attname)
                   FROM pg_attribute
                  WHERE attrelid = walked.oid AND attnum > 0 AND attnotnull AND NOT attisdropped
                  ORDER BY attnum) AS filled,
           EXISTS (SELECT
                     FROM pg_attribute
                    WHERE attrelid = walked.oid AND attname = 'user_id' AND NOT attisdropped) AS of_learners
      FROM walked
     WHERE walked.oid IS NOT NULL
"""
_CHECKS = """
    SELECT conname AS name, pg_get_constraintdef(oid) AS definition,
           pg_get_expr(conbin, conrelid) AS condition,
           (SELECT string_agg(function.prosrc, '')
              FROM pg_depend AS needed
              JOIN pg_proc AS function ON function.oid = needed.refobjid
             WHERE needed.classid = 'pg_constraint'::regclass AND needed.objid = pg_constraint.oid
               AND needed.refclassid = 'pg_proc'::regclass) AS functions
      FROM pg_constraint
     WHERE conrelid = to_regclass($1) AND contype = 'c'
     ORDER BY conname
"""
# A CHECK that refuses a row with the name of one of several rules, and a rule in the text of its function.
_REFUSING = re.compile(r"refuse_row\((?P<broken_rule>\w+\(.*\))\)")
_RULE = re.compile(r"WHEN NOT \((?P<condition>.*?)\) THEN '(?P<name>\w+)'", re.DOTALL)
_UNIQUE = """
    SELECT class.relname AS name, pg_get_indexdef(index.indexrelid) AS definition,
           ARRAY(SELECT pg_get_indexdef(index.indexrelid, place, true)
                   FROM generate_series(1, index.indnkeyatts) AS place
                  ORDER BY place) AS columns,
           coalesce(pg_get_expr(index.indpred, index.indrelid), 'true') AS condition,
           index.indnullsnotdistinct AS nulls_are_equal
      FROM pg_index AS index
      JOIN pg_class AS class ON class.oid = index.indexrelid
     WHERE index.indrelid = to_regclass($1) AND index.indisunique AND index.indisvalid
     ORDER BY class.relname
"""
_FOREIGN = """
    SELECT reference.conname AS name, pg_get_constraintdef(reference.oid) AS definition,
           reference.confrelid::regclass::text AS target,
           ARRAY(SELECT quote_ident(attname)
                   FROM unnest(reference.conkey) WITH ORDINALITY AS column_ (number, place)
                   JOIN pg_attribute ON attrelid = reference.conrelid AND attnum = column_.number
                  ORDER BY column_.place) AS columns,
           ARRAY(SELECT quote_ident(attname)
                   FROM unnest(reference.confkey) WITH ORDINALITY AS column_ (number, place)
                   JOIN pg_attribute ON attrelid = reference.confrelid AND attnum = column_.number
                  ORDER BY column_.place) AS targets
      FROM pg_constraint AS reference
     WHERE reference.conrelid = to_regclass($1) AND reference.contype = 'f'
     ORDER BY reference.conname
"""


def constraint_check(
    database: Database,
    short_name: str,
    tables: Mapping[str, Sequence[str]],
    *,
    repairs: tuple[str, ...] = (),
    advice: str = ADVICE,
) -> Check:
    """A check that no row violates a CHECK, a unique index, a foreign key or a NOT NULL of its table.

    A finding has the table and the key in `row`, and names the constraint and its definition. Of a row, only
    the key columns are shown.

    Args:
        database: the store.
        short_name: of the service, such as "session".
        tables: what is walked, each with the columns that order the walk and name a row. They must be those
            of a unique index; none stands for the primary key. Name others where the primary key has what
            evidence must not have, such as an e-mail address.
        repairs: as of a `Check`.
        advice: as of a `Check`.
    """
    return Check(
        check_id=f"{short_name}.constraint",
        severity=Severity.HIGH,
        meaning="A row exists that the database must refuse, so the learner may see it wrong or double.",
        walk=ConstraintWalk(database, tables),
        repairs=repairs,
        advice=advice,
    )


class ConstraintWalk:
    """A walk through several tables, one after the other, each in the order of a key.

    One step reads rows of one table in one statement. For each row it evaluates each CHECK, looks for another
    row in each unique index, and looks for the target of each foreign key.
    """

    def __init__(self, database: Database, tables: Mapping[str, Sequence[str]]) -> None:
        self._database = database
        self._tables = dict(tables)

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`. Raises LookupError: a table does not exist, or has no key."""
        names = list(self._tables)
        at = names.index(after[0]) if after else 0
        place = after[1:] if after else ()

        async def work(connection: Connection) -> Step:
            async with reading(connection):
                walked = await self._read(connection, names[at])
                if scope.user_id and not walked.table["of_learners"]:
                    return Step([], 0, None)
                return await _step(connection, check, scope, walked, place=place, limit=limit)

        step = await self._database.read(work, deadline=deadline, name="constraint_step")
        if step.reached is not None:
            return step
        following = (names[at + 1],) if at + 1 < len(names) else None
        return Step(step.findings, step.walked, following)

    async def _read(self, connection: Connection, name: str) -> _Walked:
        row = await connection.fetchrow(_TABLE, name, list(self._tables[name]))
        if row is None or not row["key"]:
            raise LookupError(f"{name} is no table with a key")
        table = dict(row)
        return _Walked(
            name,
            table,
            [
                *_filled(table["filled"]),
                *(_checked(dict(each)) for each in await connection.fetch(_CHECKS, name)),
                *(_unique(dict(each), table) for each in await connection.fetch(_UNIQUE, name)),
                *(_foreign(dict(each)) for each in await connection.fetch(_FOREIGN, name)),
            ],
        )


@dataclass(frozen=True, slots=True)
class _Walked:
    """A table as the catalogue describes it, and the queries of rows that violate its constraints."""

    name: str
    table: Mapping[str, Any]
    violations: Sequence[str]


async def _step(
    connection: Connection, check: Check, scope: Scope, walked: _Walked, *, place: Place, limit: int
) -> Step:
    statement = _statement(walked.table, walked.violations, of_one=bool(scope.user_id), behind=bool(place))
    learner = [scope.user_id] if scope.user_id else []
    (row,) = await connection.fetch(statement, limit, *learner, *place)
    found = [found_from(check, each) for each in orjson.loads(row["found"])]
    more = row["walked"] == limit
    return Step(found, row["walked"], (walked.name, *orjson.loads(row["reached"])) if more else None)


def _statement(table: Mapping[str, Any], violations: Sequence[str], *, of_one: bool, behind: bool) -> str:
    key: list[str] = table["key"]
    conditions = ["user_id = $2"] if of_one else []
    if behind:
        first = 3 if of_one else 2
        places = ", ".join(f"${first + at}::text::{type_}" for at, type_ in enumerate(table["types"]))
        conditions.append(f"({', '.join(key)}) > ({places})")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    shown = ", ".join(
        f"{_literal(name)}, each.{column}::text" for name, column in zip(table["key_names"], key, strict=True)
    )
    as_texts = ", ".join(f"{each}::text" for each in key)
    return f"""
        WITH step AS MATERIALIZED (
            SELECT walked.tableoid AS row_table, walked.ctid AS row_place, walked.*
              FROM {table["name"]} AS walked {where}
             ORDER BY {", ".join(key)}
             LIMIT $1
        ), violated AS (
            {" UNION ALL ".join(violations)}
        ), found AS (
            SELECT {"each.user_id" if table["of_learners"] else "''"} AS user_id,
                   jsonb_build_object('table', {_literal(table["name"])}, {shown}) AS row,
                   violated.observed,
                   'each row fulfils ' || violated.name AS expected,
                   NULL::timestamptz AS since,
                   jsonb_build_object('constraint', violated.name, 'definition', violated.definition)
                       AS evidence
              FROM violated
              JOIN step AS each USING (row_table, row_place)
        )
        SELECT (SELECT count(*) FROM step) AS walked,
               (SELECT to_json(ARRAY[{as_texts}])
                  FROM step
                 ORDER BY {", ".join(f"{each} DESC" for each in key)}
                 LIMIT 1) AS reached,
               (SELECT coalesce(json_agg(found), '[]') FROM found) AS found
    """


# OFFSET 0 makes each lookup one index probe; the planner may read all of a table in each step otherwise.
# Each violation is a SELECT of rows of `step`: row_table, row_place, name, definition, observed. Expressions
# of the catalogue name columns without their table, so each stands in a query with one table alone.
def _filled(columns: Sequence[str]) -> list[str]:
    if not columns:
        return []
    return [
        f"""
        SELECT row_table, row_place, 'NOT NULL' AS name, '' AS definition, 'a column is empty' AS observed
          FROM step
         WHERE num_nulls({", ".join(columns)}) > 0
        """
    ]


def _checked(row: Mapping[str, Any]) -> str:
    refusing = _REFUSING.fullmatch(row["condition"])
    if refusing is not None:
        return _ruled(row, refusing["broken_rule"])
    return f"""
        SELECT row_table, row_place, {_told(row)}, 'the condition is false' AS observed
          FROM step
         WHERE NOT ({row["condition"]})
    """


def _ruled(row: Mapping[str, Any], broken_rule: str) -> str:
    """As for a CHECK; each finding names the rule that its row breaks, and the condition of the rule."""
    definitions = {
        rule["name"]: f"CHECK ({' '.join(rule['condition'].split())})"
        for rule in _RULE.finditer(row["functions"] or "")
    }
    return f"""
        SELECT row_table, row_place, rule AS name,
               coalesce({_literal(orjson.dumps(definitions).decode())}::jsonb ->> rule,
                        {_literal(row["definition"])}) AS definition,
               'the condition is false' AS observed
          FROM (SELECT row_table, row_place, {broken_rule} AS rule FROM step) AS judged
         WHERE rule IS NOT NULL
    """


def _unique(row: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    columns: list[str] = row["columns"]
    same = "IS NOT DISTINCT FROM" if row["nulls_are_equal"] else "="
    values = ", ".join(f"({column}) AS value_{at}" for at, column in enumerate(columns))
    equal = " AND ".join(f"({column}) {same} mine.value_{at}" for at, column in enumerate(columns))
    return f"""
        SELECT mine.row_table, mine.row_place, {_told(row)}, 'there is another row like it' AS observed
          FROM (SELECT row_table, row_place, {values} FROM step WHERE {row["condition"]}) AS mine
         WHERE EXISTS (SELECT
                         FROM {table["name"]}
                        WHERE {equal} AND ({row["condition"]})
                          AND (tableoid, ctid) IS DISTINCT FROM (mine.row_table, mine.row_place)
                       OFFSET 0)
    """


def _foreign(row: Mapping[str, Any]) -> str:
    columns: list[str] = row["columns"]
    equal = " AND ".join(
        f"target.{target} = mine.{column}" for column, target in zip(columns, row["targets"], strict=True)
    )
    return f"""
        SELECT mine.row_table, mine.row_place, {_told(row)},
               'the row that it refers to is not there' AS observed
          FROM step AS mine
         WHERE num_nulls({", ".join(f"mine.{column}" for column in columns)}) = 0
           AND NOT EXISTS (SELECT FROM {row["target"]} AS target WHERE {equal} OFFSET 0)
    """


def _told(row: Mapping[str, Any]) -> str:
    return f"{_literal(row['name'])} AS name, {_literal(row['definition'])} AS definition"


def _literal(text: str) -> str:
    """A text as SQL has it; with `standard_conforming_strings`, only quotes are doubled."""
    return "'" + text.replace("'", "''") + "'"
