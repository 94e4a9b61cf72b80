"""The schema of a service's database: the applied migrations, and what they have made.

What the migrations make is recorded in a file beside them, because only the package knows what this program
needs: a record in the database would be as damaged, or as old, as the database. `python -m
homeroom.expected_schema` writes the files from freshly migrated databases, and a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

from chassis.diagnostics.environment.checking import Environment, Probe, Seen
from chassis.diagnostics.findings import Severity
from chassis.postgres import Connection
from chassis.postgres.migrations import Differences, differences
from chassis.postgres.transactions import read_only

FILE_NAME = "expected_schema.jsonl"

COLUMN, CONSTRAINT, INDEX = "column", "constraint", "index"

_COLUMNS = """
    SELECT rel.relname || '.' || att.attname AS name,
        format_type(att.atttypid, att.atttypmod) || CASE WHEN att.attnotnull THEN ' NOT NULL' ELSE '' END
            AS definition,
        NULL AS fault
    FROM pg_attribute AS att JOIN pg_class AS rel ON rel.oid = att.attrelid
    WHERE rel.relnamespace = current_schema()::regnamespace AND rel.relkind IN ('r', 'p', 'c')
        AND att.attnum > 0 AND NOT att.attisdropped
"""
# Not-null constraints are part of the columns. A CHECK that calls functions is defined by them, too.
_CONSTRAINTS = """
    SELECT rel.relname || '.' || con.conname AS name,
        concat_ws(
            E'\n',
            regexp_replace(pg_get_constraintdef(con.oid), ' NOT VALID$', ''),
            (
                SELECT string_agg(
                    replace(pg_get_functiondef(fun.oid), quote_ident(current_schema()) || '.', ''), E'\n'
                    ORDER BY fun.proname
                )
                FROM pg_depend AS dep JOIN pg_proc AS fun ON fun.oid = dep.refobjid
                WHERE dep.classid = 'pg_constraint'::regclass AND dep.objid = con.oid
                    AND dep.refclassid = 'pg_proc'::regclass
            )
        ) AS definition,
        CASE WHEN NOT con.convalidated THEN 'is not validated' END AS fault
    FROM pg_constraint AS con JOIN pg_class AS rel ON rel.oid = con.conrelid
    WHERE rel.relnamespace = current_schema()::regnamespace AND con.contype IN ('c', 'f', 'p', 'u', 'x')
"""
_INDEXES = """
    SELECT tab.relname || '.' || rel.relname AS name,
        replace(pg_get_indexdef(rel.oid), ' ON ' || quote_ident(current_schema()) || '.', ' ON ')
            AS definition,
        CASE WHEN NOT ind.indisvalid OR NOT ind.indisready THEN 'is invalid' END AS fault
    FROM pg_index AS ind
    JOIN pg_class AS rel ON rel.oid = ind.indexrelid
    JOIN pg_class AS tab ON tab.oid = ind.indrelid
    WHERE rel.relnamespace = current_schema()::regnamespace AND tab.relkind IN ('r', 'p')
"""
_TABLES = """
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'c')
"""
_STATEMENTS = {COLUMN: _COLUMNS, CONSTRAINT: _CONSTRAINTS, INDEX: _INDEXES}


class SchemaObject(NamedTuple):
    """A column, a constraint or an index: `table.name`, and how PostgreSQL spells it."""

    name: str
    definition: str
    fault: str = ""
    """What is wrong with it, although it is there."""

    @property
    def table(self) -> str:
        return _table(self.name)


class ExpectedSchema(NamedTuple):
    """What the migrations make; `major` is the version of PostgreSQL that has spelled the definitions."""

    major: int
    objects: Mapping[str, Mapping[str, str]]
    """By kind: definitions by name."""


def spelled_alike(connection: Connection) -> AbstractAsyncContextManager[None]:
    """A transaction in which definitions do not depend on the settings of the session."""
    return read_only(
        connection,
        "SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, MDY'; SET LOCAL intervalstyle = 'postgres'",
    )


async def read_objects(connection: Connection, kind: str) -> list[SchemaObject]:
    """The objects of a kind in the current schema, by name."""
    found = [
        SchemaObject(row["name"], row["definition"], row["fault"] or "")
        for row in await connection.fetch(_STATEMENTS[kind])
    ]
    return sorted(found)


def read_major(connection: Connection) -> int:
    """The major version of the server."""
    return connection.get_server_version().major


async def record(connection: Connection) -> str:
    """The text of the file for this database."""
    lines: list[dict[str, object]] = [{"postgresql": read_major(connection)}]
    async with spelled_alike(connection):
        for kind in (COLUMN, CONSTRAINT, INDEX):
            lines += [
                {"kind": kind, "name": each.name, "definition": each.definition}
                for each in await read_objects(connection, kind)
            ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def expected_schema(path: Path) -> ExpectedSchema:
    """What the file says. Raises OSError or ValueError."""
    head, *rest = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    objects: dict[str, dict[str, str]] = {COLUMN: {}, CONSTRAINT: {}, INDEX: {}}
    for each in rest:
        objects[each["kind"]][each["name"]] = each["definition"]
    return ExpectedSchema(int(head["postgresql"]), objects)


def file_of(environment: Environment) -> Path | None:
    """The file of the process; None for one whose schema is not recorded."""
    folder = environment.migrations.get(environment.process)
    path = folder / FILE_NAME if folder is not None else None
    return path if path is not None and path.exists() else None


async def look_version(probe: Probe) -> list[Seen]:
    async def work(connection: Connection) -> Differences:
        return await differences(connection, probe.environment.migrations)

    found = await probe.ask(work)
    expected = "exactly the migrations of this program"
    seen = []
    for severity, what, migrations in (
        (Severity.CRITICAL, "the database lacks", found.missing),
        (Severity.CRITICAL, "the database was migrated with another text of", found.changed),
        (Severity.HIGH, "the database is newer than this program: it also has", found.newer),
    ):
        if migrations:
            listed = ", ".join(migrations[:5]) + (f" and {len(migrations) - 5} more" * (len(migrations) > 5))
            seen.append(Seen(severity, f"{what} {listed}", expected))
    return seen


async def look_columns(probe: Probe) -> list[Seen]:
    return await _look(probe, COLUMN)


async def look_constraints(probe: Probe) -> list[Seen]:
    return await _look(probe, CONSTRAINT)


async def look_indexes(probe: Probe) -> list[Seen]:
    return await _look(probe, INDEX)


async def _look(probe: Probe, kind: str) -> list[Seen]:
    """Compare the objects of a kind with the recorded ones, if the database has exactly our migrations."""
    path = file_of(probe.environment)
    if path is None:
        return []

    async def work(connection: Connection) -> tuple[list[SchemaObject], set[str], int] | None:
        other = await differences(connection, probe.environment.migrations)
        if other.missing or other.newer:
            return None
        async with spelled_alike(connection):
            return (
                await read_objects(connection, kind),
                {row["name"] for row in await connection.fetch(_TABLES)},
                read_major(connection),
            )

    answer = await probe.ask(work)
    if answer is None:
        return [
            Seen(Severity.INFO, f"the {_plural(kind)} were not compared: the database has other migrations")
        ]
    found, there, major = answer
    expected = expected_schema(path)
    wanted = expected.objects[kind]
    backed = set(expected.objects[CONSTRAINT]) if kind == INDEX else set()
    tables = {_table(name) for name in expected.objects[COLUMN]}
    present = {each.name for each in found}
    return [
        *(_missing_tables(tables - there) if kind == COLUMN else ()),
        *_missing(kind, {name: wanted[name] for name in wanted if _table(name) in there}, present | backed),
        *_faulty(kind, wanted, found),
        *(_different(kind, wanted, found) if major == expected.major else ()),
        *_unknown(kind, wanted, (each for each in found if each.table in tables)),
    ]


def _missing_tables(names: Iterable[str]) -> Iterable[Seen]:
    """A table that is missing is told once, and its columns, constraints and indexes are not."""
    for name in sorted(names):
        yield Seen(Severity.CRITICAL, f"table {name} is missing", "", {"table": name})


def _missing(kind: str, wanted: Mapping[str, str], present: set[str]) -> Iterable[Seen]:
    """An index that belongs to a constraint is missing with it, and is not told twice."""
    for name, definition in wanted.items():
        if name not in present:
            severity = _severity(kind, definition)
            yield Seen(severity, f"{kind} {name} is missing", definition, _row(kind, name))


def _faulty(kind: str, wanted: Mapping[str, str], found: Iterable[SchemaObject]) -> Iterable[Seen]:
    for each in found:
        if not each.fault:
            continue
        severity = Severity.LOW
        if each.name in wanted:
            severity = Severity.MEDIUM if kind == CONSTRAINT else _severity(kind, each.definition)
        yield Seen(
            severity, f"{kind} {each.name} {each.fault}", wanted.get(each.name, ""), _row(kind, each.name)
        )


def _different(kind: str, wanted: Mapping[str, str], found: Iterable[SchemaObject]) -> Iterable[Seen]:
    for each in found:
        definition = wanted.get(each.name, each.definition)
        if each.definition != definition:
            severity = _severity(kind, definition)
            other = _lines_apart(each.definition, definition)
            observed = f"{kind} {each.name} is another one: {other}"
            yield Seen(severity, observed, _lines_apart(definition, each.definition), _row(kind, each.name))


def _lines_apart(definition: str, other: str) -> str:
    """The lines that only the first one has; the functions of a CHECK are too long to be told as a whole."""
    return "\n".join(line.strip() for line in definition.splitlines() if line not in other.splitlines())


def _unknown(kind: str, wanted: Mapping[str, str], found: Iterable[SchemaObject]) -> Iterable[Seen]:
    """What somebody has added to our tables by hand; what may refuse rows is worse than what is only slow."""
    for each in found:
        if each.name in wanted or each.fault:
            continue
        refuses = kind == CONSTRAINT or "UNIQUE" in each.definition or "NOT NULL" in each.definition
        severity = Severity.MEDIUM if refuses else Severity.INFO
        yield Seen(severity, f"{kind} {each.name} was not made by a migration", "", _row(kind, each.name))


def _severity(kind: str, definition: str) -> Severity:
    """How bad it is without: statements fail without a column or a unique index that they name."""
    if kind == COLUMN or "UNIQUE" in definition or "PRIMARY KEY" in definition:
        return Severity.CRITICAL
    return Severity.HIGH if kind == CONSTRAINT else Severity.MEDIUM


def _table(name: str) -> str:
    return name.partition(".")[0]


def _row(kind: str, name: str) -> dict[str, str]:
    table, _, own_name = name.partition(".")
    return {"table": table, kind: own_name}


def _plural(kind: str) -> str:
    return "indexes" if kind == INDEX else f"{kind}s"
