"""Rows of PostgreSQL: a batch on its way in is one parameter, a row on its way out is a dataclass.

A statement reads a batch with `json_to_recordset($1) AS name (column type, …)`. A store spells the columns
of a table once, with their types. The hottest statements take rows of a `RowType` instead, which cost
PostgreSQL less. ARCHITECTURE.md, "Rows travel as one parameter", has the measurements.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter, itemgetter
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


def as_rows(rows: Sequence[Any] | Mapping[str, Any]) -> str:
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


class RowType:
    """Rows that travel as an array of a composite type, in the binary form of PostgreSQL.

    A migration creates the type, and nothing changes it afterwards: the previous version of a service may
    still send its rows. Other columns need a new type. It is never the type of a table, which a migration
    may widen.

    Args:
        name: of the composite type.
        columns: its attributes in their order, as `name type, …`. Rows have fields of these names.
    """

    def __init__(self, name: str, columns: str) -> None:
        pairs = [column.split(maxsplit=1) for column in columns.split(",")]
        self.name = name
        self.columns = columns
        self._fields = attrgetter(*(field for field, _ in pairs))
        self._objects = tuple(place for place, (_, kind) in enumerate(pairs) if kind.strip() == "jsonb")

    def unnest(self, parameter: int) -> str:
        """The rows of a parameter of a statement, as a table.

        The subquery hides the length of the array from the planner. Otherwise a short array looks cheaper
        than the generic plan, and PostgreSQL plans the statement in each execution: 0.1 ms for a start.
        """
        return f"unnest((SELECT ${parameter}::{self.name}[]))"

    def values(self, rows: Iterable[Any]) -> list[Sequence[object]]:
        """The parameter: the fields of these rows, in the order of the type."""
        values: list[Sequence[object]] = list(map(self._fields, rows))  # attrgetter makes tuples
        return [self._value(value) for value in values] if self._objects else values

    def _value(self, value: Sequence[Any]) -> Sequence[object]:
        fields = list(value)
        for place in self._objects:
            if fields[place] is not None:
                fields[place] = as_rows(fields[place])
        return tuple(fields)


def from_row(made: type[D], row: asyncpg.Record, /, *, prefix: str = "", **converted: object) -> D:
    """A dataclass from the columns that have the names of its fields, behind the prefix.

    `converted` has the values of the fields whose type differs from what the driver returns.
    """
    instance: D = _maker(made, prefix, tuple(converted))(row, converted)
    return instance


# A session has 41 fields. The columns are picked out in C, and the fields are passed by position: 2.6 µs for
# a session, where a loop over the fields and keyword arguments took 11.5 µs.
@lru_cache(maxsize=512)
def _maker(
    made: type[D], prefix: str, converted: tuple[str, ...]
) -> Callable[[asyncpg.Record, Mapping[str, object]], D]:
    """How `from_row` makes an instance, when these fields are converted."""
    fields = made.__dataclass_fields__
    pick = _picker([prefix + name for name in fields if name not in converted])
    places = [(place, name) for place, name in enumerate(fields) if name in converted]
    by_name = any(field.kw_only for field in fields.values())

    def make(row: asyncpg.Record, given: Mapping[str, object]) -> D:
        values = list(pick(row))
        for place, name in places:
            values.insert(place, given[name])
        return made(**dict(zip(fields, values, strict=True))) if by_name else made(*values)

    return make


def _picker(columns: Sequence[str]) -> Callable[[asyncpg.Record], Iterable[Any]]:
    """Reads these columns of a row."""
    if len(columns) > 1:
        return itemgetter(*columns)
    return lambda row: [row[column] for column in columns]  # `itemgetter` of one name makes no tuple


def _plain(value: object) -> object:
    """The JSON form of a value whose type orjson does not know."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, uuid.UUID):  # orjson does not know asyncpg's subclass of it
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in a row")
