"""Rows for PostgreSQL: a whole batch is one JSON parameter.

A statement reads it with `json_to_recordset($1) AS name (column type, …)`. So the names and the types are in
one place, in the statement that uses them. ARCHITECTURE.md, "Rows travel as JSON", has the measurements
against one array per column.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from chassis.postgres.errors import DATA_EXCEPTION, InvalidValue

# A time without an offset is UTC, as protobuf's `ToDatetime` returns it. Without this option, PostgreSQL
# would read it in the time zone of the session.
_OPTIONS = orjson.OPT_NAIVE_UTC


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


def _plain(value: object) -> object:
    """The JSON form of a value whose type orjson does not know."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, uuid.UUID):  # orjson does not know asyncpg's subclass of it
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in a row")
