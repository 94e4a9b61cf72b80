"""Rows on their way to PostgreSQL: a whole batch is one JSON parameter.

A statement takes them apart with `json_to_recordset($1) AS name (column type, …)`, so that names and types
stand in one place, next to the statement that uses them. Measured against one array per column
(ARCHITECTURE.md, "Rows travel as JSON").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson


def as_rows(rows: Sequence[Any]) -> str:
    """Dataclasses or mappings as a JSON array of objects, whose keys are the fields' names.

    Times become RFC 3339 with their offset, UUIDs and enums their text, mappings objects, bytes the
    hexadecimal form of `bytea` (PostgreSQL 18, 8.4.1).
    """
    return orjson.dumps(rows, default=_as_text).decode()


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, UUID):  # the driver's own subclass, in rows that were read before
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in a row")
