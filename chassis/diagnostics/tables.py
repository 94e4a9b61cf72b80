"""Tables as a repair sees them: rows are JSON objects with all columns, found by their primary key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from chassis.postgres import Connection
from chassis.postgres.rows import as_rows

# Columns that PostgreSQL computes cannot be written.
_COLUMNS = """
    SELECT attname
      FROM pg_attribute
     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
     ORDER BY attnum
"""
_KEY = """
    SELECT attribute.attname
      FROM pg_index AS index
      JOIN pg_attribute AS attribute
        ON attribute.attrelid = index.indrelid AND attribute.attnum = ANY (index.indkey)
     WHERE index.indrelid = to_regclass($1) AND index.indisprimary
"""


class Rows(Protocol):
    """Rows that a repair may change: those of a table, or entries of a cache."""

    async def lock(self, connection: Connection, before: Mapping[str, Any]) -> bool | None:
        """Keep others from changing the row. Whether it is as `before` shows it; None if it is gone."""
        ...

    async def insert(self, connection: Connection, after: Mapping[str, Any]) -> dict[str, Any] | None:
        """Create the row, and return it as it is now; None if there is one that excludes it."""
        ...

    async def replace(
        self, connection: Connection, before: Mapping[str, Any], after: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """Update a locked row, or remove it if `after` is None; return it as it is now."""
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one table. Names come from PostgreSQL's catalogue, and are quoted."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    async def lock(self, connection: Connection, before: Mapping[str, Any]) -> bool | None:
        """See `Rows`."""
        unchanged: bool | None = await connection.fetchval(
            f"""
            SELECT to_jsonb(kept) = $1::jsonb
              FROM {self._quoted} AS kept, {self._told(1)}
             WHERE {self._same}
               FOR UPDATE OF kept
            """,
            as_rows(before),
        )
        return unchanged

    async def insert(self, connection: Connection, after: Mapping[str, Any]) -> dict[str, Any] | None:
        """See `Rows`. A column that `after` does not name gets its default."""
        names = [_quoted(each) for each in self.columns if each in after]
        created: str | None = await connection.fetchval(
            f"""
            INSERT INTO {self._quoted} AS kept ({", ".join(names)})
            OVERRIDING SYSTEM VALUE
            SELECT {", ".join(f"told.{name}" for name in names)}
              FROM {self._told(1)}
                ON CONFLICT DO NOTHING
            RETURNING to_jsonb(kept)
            """,
            as_rows(after),
        )
        return None if created is None else orjson.loads(created)

    async def replace(
        self, connection: Connection, before: Mapping[str, Any], after: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """See `Rows`."""
        if after is None:
            await connection.execute(
                f"DELETE FROM {self._quoted} AS kept USING {self._told(1)} WHERE {self._same}",
                as_rows(before),
            )
            return None
        names = [_quoted(each) for each in self.columns if each in after]
        updated: str = await connection.fetchval(
            f"""
            UPDATE {self._quoted} AS kept
               SET ({", ".join(names)}) = ROW ({", ".join(f"changed.{name}" for name in names)})
              FROM jsonb_populate_record(NULL::{self._quoted}, $2::jsonb) AS changed, {self._told(1)}
             WHERE {self._same}
            RETURNING to_jsonb(kept)
            """,
            as_rows(before),
            as_rows(after),
        )
        kept: dict[str, Any] = orjson.loads(updated)
        return kept

    @property
    def _quoted(self) -> str:
        return _quoted(self.name)

    @property
    def _same(self) -> str:
        return " AND ".join(f"kept.{_quoted(each)} = told.{_quoted(each)}" for each in self.key)

    def _told(self, parameter: int) -> str:
        return f"jsonb_populate_record(NULL::{self._quoted}, ${parameter}::jsonb) AS told"


class Tables:
    """What repairs may change, by name.

    A table is read from the catalogue anew in each batch: a migration may add a column at any time.

    Args:
        others: rows that are not in this database, such as entries of a cache.
    """

    def __init__(self, others: Mapping[str, Rows] | None = None) -> None:
        self._others = others or {}

    async def get(self, connection: Connection, name: str) -> Rows:
        """Raises LookupError: there is no such table, or it has no primary key."""
        if name in self._others:
            return self._others[name]
        columns = [row["attname"] for row in await connection.fetch(_COLUMNS, name)]
        key = [row["attname"] for row in await connection.fetch(_KEY, name)]
        if not columns or not key:
            raise LookupError(f"{name} is no table with a primary key")
        return Table(name, tuple(columns), tuple(key))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
