"""The columns that a store names are those of its tables, and the fields of its dataclasses.

A row that travels as JSON has no check of its own: a column that is misspelled in the statement and in the
recordset is read as NULL, without an error. A row of a composite type is taken apart by position.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

from chassis.postgres.rows import RowType
from tests.house.sources import ROOT, SERVICES, Source, literal, sources, told

CHASSIS = "chassis"
MIGRATIONS = {CHASSIS: "chassis/postgres/migrations"} | {name: f"{name}/migrations" for name in SERVICES}
STORES = {CHASSIS: "chassis/postgres"} | {name: f"{name}/store" for name in SERVICES}

TYPE = (
    r"(?:bigint|boolean|bytea|date|double precision|float8|integer|interval|jsonb?|numeric|smallint|text"
    r"|timestamptz|uuid)(?:\s*\[\])?"
)
COLUMN = rf"\w+\s+{TYPE}"
# `AS name (column type, …)`, the name may be missing.
RECORDSET = re.compile(
    rf"json_to_recordset\(\$\d+\)\s*AS\s*\w*\s*\(\s*({COLUMN}(?:\s*,\s*{COLUMN})*)\s*\)", re.IGNORECASE
)
ANY_RECORDSET = re.compile(r"json_to_recordset\(\$\d+\)", re.IGNORECASE)
# A constant that holds only the columns, with or without their parentheses, for several statements.
ROWS_CONSTANT = re.compile(
    rf"\s*(?:(?:AS\s+)?\w*\s*\()?\s*({COLUMN}(?:\s*,\s*{COLUMN})*)\s*\)?\s*", re.IGNORECASE
)

CREATE_TABLE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) \((.*?)^\)", re.DOTALL | re.MULTILINE)
TABLE_COLUMN = re.compile(rf"^\s*(\w+) ({TYPE})", re.MULTILINE | re.IGNORECASE)
ALTER_TABLE = re.compile(r"ALTER TABLE (?:ONLY )?(\w+)(.*?);", re.DOTALL)
ADDED_COLUMN = re.compile(rf"ADD COLUMN (?:IF NOT EXISTS )?(\w+) ({TYPE})", re.IGNORECASE)
RETYPED_COLUMN = re.compile(rf"ALTER COLUMN (\w+) (?:SET DATA )?TYPE ({TYPE})", re.IGNORECASE)
CREATE_TYPE = re.compile(r"CREATE TYPE (\w+) AS \((.*?)^\)", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"--[^\n]*")

Columns = dict[str, str]


@cache
def tables(owner: str) -> Mapping[str, Columns]:
    """The tables of a service after all its migrations: their columns with their types."""
    found: dict[str, Columns] = {}
    for path in sorted((ROOT / MIGRATIONS[owner]).glob("*.sql")):
        sql = COMMENT.sub("", path.read_text(encoding="utf-8"))
        for table, body in CREATE_TABLE.findall(sql):
            found[table] = {name: kind_of(kind) for name, kind in TABLE_COLUMN.findall(body)}
        for table, change in ALTER_TABLE.findall(sql):
            for pattern in (ADDED_COLUMN, RETYPED_COLUMN):
                for name, kind in pattern.findall(change):
                    found.setdefault(table, {})[name] = kind_of(kind)
    return found


@cache
def types(owner: str) -> Mapping[str, str]:
    """The composite types of a service: their attributes with their types, as text."""
    return {
        name: " ".join(body.split()).replace(" [", "[")
        for path in sorted((ROOT / MIGRATIONS[owner]).glob("*.sql"))
        for name, body in CREATE_TYPE.findall(COMMENT.sub("", path.read_text(encoding="utf-8")))
    }


def row_types() -> Iterator[tuple[str, str, RowType]]:
    """The row types that the stores declare: owner, place, type."""
    for owner, source in stores():
        for name, value in vars(importlib.import_module(source.module)).items():
            if isinstance(value, RowType) and declares(source, name):
                yield owner, f"{source.path}: {name}", value


@cache
def fields(owner: str) -> Mapping[str, list[frozenset[str]]]:
    """The annotated fields of the classes of a package, by the class' name."""
    found = defaultdict(list)
    for source in sources([owner]):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(
                    frozenset(
                        statement.target.id
                        for statement in node.body
                        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
                    )
                )
    return found


def kind_of(text: str) -> str:
    kind = re.sub(r"\s+(?=\[)", "", " ".join(text.lower().split()))
    return {"jsonb": "json", "float8": "double precision"}.get(kind, kind)


def stores() -> Iterator[tuple[str, Source]]:
    for owner, folder in STORES.items():
        for source in sources([folder]):
            yield owner, source


def statements(source: Source) -> Iterator[tuple[str, str]]:
    """The strings of a module as they are when it has been imported, with where they stand."""
    module = importlib.import_module(source.module)
    for name, value in vars(module).items():
        if isinstance(value, RowType):
            yield f"{source.path}: {name}", value.columns
        if isinstance(value, str) and not name.startswith("__"):
            yield f"{source.path}: {name}", value
    for function in ast.walk(source.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in strings(function):
                yield source.at(node, function.name), evaluated(module, node)


def strings(node: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """The strings below a node; an f-string as a whole, not its parts."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Constant | ast.JoinedStr):
            yield child
        else:
            yield from strings(child)


def evaluated(module: ModuleType, node: ast.Constant | ast.JoinedStr) -> str:
    """A string in a function, as far as constants of its module tell."""
    if isinstance(node, ast.Constant):
        return literal(node) or ""
    try:
        value: Any = eval(compile(ast.Expression(node), "<string>", "eval"), vars(module))  # noqa: S307 - ours
    except NameError:  # it depends on the function's own variables
        return "".join(literal(part) or "{}" for part in node.values)
    return str(value)


def recordsets(source: Source) -> Iterator[tuple[str, Columns]]:
    """The typed rows that a module's statements take apart."""
    for place, text in statements(source):
        found = RECORDSET.findall(text)
        alone = ROWS_CONSTANT.fullmatch(text)
        for columns in [*found, *([alone[1]] if alone else [])]:
            pairs = (column.split(maxsplit=1) for column in columns.split(","))
            yield place, {name: kind_of(kind) for name, kind in pairs}


def test_each_recordset_names_its_columns_with_their_types() -> None:
    faults = [
        f"{place}: json_to_recordset without `AS name (column type, …)` that this test can read"
        for _, source in stores()
        for place, text in statements(source)
        if len(ANY_RECORDSET.findall(text)) > len(RECORDSET.findall(text))
    ]
    assert not faults, told(faults)


def test_the_columns_of_a_recordset_are_fields_of_what_is_sent() -> None:
    faults = []
    for owner, source in stores():
        known = set().union(
            *(names for part in (owner, CHASSIS) for each in fields(part).values() for names in each)
        )
        known |= {
            key
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Dict)
            for key in map(literal, node.keys)
            if key is not None
        }
        for place, columns in recordsets(source):
            faults += [f"{place}: no dataclass has a field {name!r}" for name in columns if name not in known]
    assert not faults, told(faults)


def test_the_columns_of_a_recordset_have_the_types_of_the_tables() -> None:
    faults = []
    for owner, source in stores():
        types = defaultdict(set)
        for part in {owner, CHASSIS}:
            for columns in tables(part).values():
                for name, kind in columns.items():
                    types[name].add(kind)
        for place, columns in recordsets(source):
            faults += [
                f"{place}: {name} is {kind} here, and {' or '.join(sorted(types[name]))} in the table"
                for name, kind in columns.items()
                if name in types and kind not in types[name]
            ]
    assert not faults, told(faults)


def test_a_row_type_is_the_type_that_a_migration_creates() -> None:
    faults = []
    for owner, place, row_type in row_types():
        created = types(owner).get(row_type.name)
        if created is None or created.replace(" []", "[]") != " ".join(row_type.columns.split()):
            faults.append(f"{place}: {row_type.columns!r} here, and {created!r} in the migration")
    assert not faults, told(faults)
    assert {row_type.name for _, _, row_type in row_types()} >= {
        "completed_call",
        "started_session",
        "new_hold",
    }


def test_a_list_of_columns_is_a_table_s_and_a_dataclass_s() -> None:
    """SESSION_COLUMNS: all of them are columns of one table, and they are the fields of Session."""
    faults = []
    for owner, source in stores():
        module = importlib.import_module(source.module)
        for name, value in vars(module).items():
            if not name.endswith("_COLUMNS") or not isinstance(value, str) or not declares(source, name):
                continue
            listed = [each.split(".")[-1] for each in map(without_alias, value.split(","))]
            if not any(set(listed) <= set(columns) for columns in tables(owner).values()):
                faults.append(f"{source.path}: {name} is not a list of columns of one table of {owner}")
            if len(set(listed)) < len(listed):
                faults.append(f"{source.path}: {name} names a column twice")
            candidates = fields(owner).get(class_named_by(name), [])
            if candidates and set(listed) not in candidates:
                faults.append(f"{source.path}: {name} differs from the fields of {class_named_by(name)}")
    assert not faults, told(faults)


def declares(source: Source, name: str) -> bool:
    """Whether the constant is assigned in this module, not imported into it."""
    return any(
        isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
        for node in source.tree.body
    )


def without_alias(column: str) -> str:
    return re.split(r"\s+AS\s+", column.strip(), flags=re.IGNORECASE)[0]


def class_named_by(constant: str) -> str:
    return "".join(word.capitalize() for word in constant.removesuffix("_COLUMNS").strip("_").split("_"))


def test_the_migrations_are_read_as_they_are_written() -> None:
    """The checks above would find nothing wrong in tables that they cannot read."""
    for owner in MIGRATIONS:
        assert tables(owner), owner
        assert all(tables(owner).values()), tables(owner)
    assert tables("session_service")["questions"]["choices"] == "text[]"
    assert tables("session_service")["questions"]["until_revision"] == "integer"
    assert tables("session_service")["test_revisions"]["pass_score"] == "double precision"
    assert tables(CHASSIS)["idempotency_keys"]["fingerprint"] == "bytea"
    assert tables("session_service")["questions"]["since_revision"] == "integer"


def test_the_statements_are_read_as_they_are_written() -> None:
    catalog = next(source for _, source in stores() if source.module == "session_service.store.catalog")
    rows = [columns for place, columns in recordsets(catalog) if place.endswith("_INSERT_QUESTIONS")]
    assert [list(columns) for columns in rows] == [
        ["question_id", "prompt", "choices", "accepted", "difficulty", "subject"]
    ]
    idempotency = next(source for _, source in stores() if source.module == "chassis.postgres.idempotency")
    assert any("fingerprint" in columns for _, columns in recordsets(idempotency))


def test_only_migrations_begin_transactions_with_asyncpg() -> None:
    """A connection of the pool does not survive an interrupted `transaction()`; see `read_only`."""
    allowed = "chassis.postgres.migrations"
    faults = [
        source.at(node, "use Database.write or chassis.postgres.transactions.read_only")
        for source in sources((CHASSIS, *SERVICES))
        if source.module != allowed
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "transaction"
    ]
    assert not faults, told(faults)
