"""Rows of PostgreSQL: a batch on its way in is one JSON parameter, a row on its way out is a dataclass.

A statement reads a batch with `json_to_recordset($1) AS name (column type, …)`. A store spells the columns
of a table once, with their types. ARCHITECTURE.md, "Rows travel as JSON", has the measurements against one
array for each column.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import orjson

from chassis.postgres.errors import DATA_EXCEPTION, InvalidValue

# A time without an offset is UTC, as protobuf's `ToDatetime` returns it. Without this option, PostgreSQL
# would read it in the time zone of the session.
_OPTIONS = orjson.OPT_NAIVE_UTC

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

D = TypeVar("D", bound="DataclassInstance")


def names(columns: str, *, of: str = "") -> str:
    """The names of typed columns: `user_id text, day date` becomes `user_id, day`, or `t.user_id, t.day`."""
    prefix = f"{of}." if of else ""
    return ", ".join(prefix + column.split()[0] for column in columns.split(","))


def as_rows(rows: Sequence[Any]) -> str:
    """Dataclasses or mappings as a JSON array of objects, whose keys are the names of the fields.

    Times become RFC 3339 with an offset, UUIDs and enums become text, mappings become objects, and bytes
    become the hexadecimal form of `bytea` (PostgreSQL 18, 8.4.1). NaN and the infinities become null.

    Raises:
        InvalidValue: a value cannot be sent, such as half of a surrogate pair or an integer above 64 bits.
        TypeError: a field has a type that no column takes.
    """
    try:
        return orjson.dumps(rows, default=_plain, option=_OPTIONS).decode()
    except orjson.JSONEncodeError as error:
        if isinstance(error.__cause__, TypeError):
            raise error.__cause__ from None
        raise InvalidValue(DATA_EXCEPTION) from error


def from_row(made: type[D], row: asyncpg.Record, /, *, prefix: str = "", **converted: object) -> D:
    """A dataclass from the columns that have the names of its fields, behind the prefix.

    `converted` has the values of the fields whose type differs from what the driver returns.
    """
    return made(
        **{
            name: converted[name] if name in converted else row[prefix + name]
            for name in made.__dataclass_fields__
        }
    )


def _plain(value: object) -> object:
    """The JSON form of a value whose type orjson does not know."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, uuid.UUID):  # orjson does not know asyncpg's subclass of it
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in a row")
