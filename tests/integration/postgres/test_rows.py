"""A batch of rows arrives in PostgreSQL as it was, and what cannot arrive is refused as data."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest

from chassis.postgres import Connection, Database, InvalidValue
from chassis.postgres.rows import RowType, as_rows
from tests.support.notes import soon


class Color(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Row:
    user_id: str = "ann"
    session_id: uuid.UUID | None = None
    made_at: datetime | None = None
    day: date | None = None
    amount: int | None = None
    ratio: float | None = None
    payload: bytes | None = None
    color: Color | None = None
    flag: bool | None = None
    metadata: Mapping[str, str] | None = None
    names: list[str] = field(default_factory=list)


READ = """
    SELECT user_id, session_id, made_at, day, amount, ratio, payload, color, flag, metadata::text, names
      FROM json_to_recordset($1) AS row (user_id text, session_id uuid, made_at timestamptz, day date,
           amount bigint, ratio float8, payload bytea, color text, flag boolean, metadata jsonb, names text[])
"""


TYPE = RowType(
    "row_of_a_test",
    "user_id text, session_id uuid, made_at timestamptz, day date, amount bigint, ratio float8,"
    " payload bytea, color text, flag boolean, metadata jsonb, names text[]",
)
READ_TYPED = """
    SELECT user_id, session_id, made_at, day, amount, ratio, payload, color, flag, metadata::text, names
      FROM unnest($1::row_of_a_test[]) AS row
"""


async def there_typed(database: Database, admin: Connection, rows: list[Row]) -> list[dict[str, Any]]:
    """The same with a composite type."""
    await admin.execute(f"CREATE TYPE {TYPE.name} AS ({TYPE.columns})")
    sent = TYPE.values(rows)
    found = await database.read(lambda connection: connection.fetch(READ_TYPED, sent), deadline=soon())
    return [dict(row) for row in found]


async def there(database: Database, rows: list[Any]) -> list[dict[str, Any]]:
    """The rows as PostgreSQL understands them."""
    sent = as_rows(rows)
    found = await database.read(lambda connection: connection.fetch(READ, sent), deadline=soon())
    return [dict(row) for row in found]


@pytest.mark.parametrize("form", ["json", "composite"])
async def test_each_type_arrives_as_it_was(database: Database, admin: Connection, form: str) -> None:
    session_id = uuid.uuid4()
    made_at = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=timezone(timedelta(hours=2)))
    row = Row(
        'Ann "é" \\ \n 😀',
        session_id,
        made_at,
        date(2026, 2, 3),
        2**63 - 1,
        0.1,
        b"\x00\xff\\",
        Color.RED,
        True,
        MappingProxyType({"a": "b"}),
        ["x", 'y"'],
    )
    (found,) = await (there(database, [row]) if form == "json" else there_typed(database, admin, [row]))
    assert found == {
        "user_id": 'Ann "é" \\ \n 😀',
        "session_id": session_id,
        "made_at": made_at,
        "day": date(2026, 2, 3),
        "amount": 2**63 - 1,
        "ratio": 0.1,
        "payload": b"\x00\xff\\",
        "color": "red",
        "flag": True,
        "metadata": '{"a": "b"}',
        "names": ["x", 'y"'],
    }


async def test_what_came_from_postgresql_can_go_back(database: Database, admin: Connection) -> None:
    row = await admin.fetchrow("SELECT gen_random_uuid() AS session_id, now() AS made_at")
    assert row is not None
    assert type(row["session_id"]) is not uuid.UUID, "the driver has a class of its own"
    (found,) = await there(database, [dict(row)])
    assert (found["session_id"], found["made_at"]) == (row["session_id"], row["made_at"])


async def test_a_time_without_an_offset_is_utc_in_every_time_zone(
    database: Database, admin: Connection
) -> None:
    await admin.execute("SET timezone = 'Asia/Tokyo'")
    row = await admin.fetchrow(READ, as_rows([Row(made_at=datetime(2026, 1, 2))]))  # noqa: DTZ001 - on purpose
    assert row is not None
    assert row["made_at"] == datetime(2026, 1, 2, tzinfo=UTC)


async def test_rows_keep_their_order_and_an_empty_batch_is_none(database: Database) -> None:
    assert await there(database, []) == []
    names = [f"user-{number}" for number in range(100)]
    assert [row["user_id"] for row in await there(database, [Row(name) for name in names])] == names


@pytest.mark.parametrize(
    "row",
    [
        Row("\ud800"),
        Row("a\0b"),
        Row(amount=2**63),
        Row(amount=2**64),
        Row(amount=-(2**200)),
        {"session_id": "no uuid"},
        {"made_at": "yesterday-ish"},
    ],
    ids=["surrogate", "nul", "bigint", "64 bits", "huge", "uuid", "time"],
)
async def test_a_value_that_cannot_be_stored_is_refused_as_data(database: Database, row: Any) -> None:
    with pytest.raises(InvalidValue):
        await there(database, [row])


@pytest.mark.parametrize(
    "row",
    [Row("\ud800"), Row("a\0b"), Row(amount=2**63), Row(amount=-(2**200)), Row(metadata={"a": "\0"})],
    ids=["surrogate", "nul", "bigint", "huge", "nul in an object"],
)
async def test_a_composite_value_that_cannot_be_stored_is_refused_as_data(
    database: Database, admin: Connection, row: Row
) -> None:
    with pytest.raises(InvalidValue):
        await there_typed(database, admin, [row])


async def test_a_composite_row_keeps_what_is_missing_apart_from_what_is_empty(
    database: Database, admin: Connection
) -> None:
    (missing, empty) = await there_typed(database, admin, [Row(), Row(payload=b"", metadata={})])
    assert (missing["payload"], empty["payload"]) == (None, b"")
    assert (missing["metadata"], empty["metadata"]) == (None, "{}")


def test_a_type_that_no_column_takes_is_a_bug() -> None:
    with pytest.raises(TypeError, match="timedelta"):
        as_rows([{"age": timedelta(days=1)}])
