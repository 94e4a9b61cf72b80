"""The tables of sessions and answers: their columns, and what they refuse."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

import asyncpg
import pytest

from session_service.domain.sessions import GivenAnswer, Session
from session_service.store.changes import Changes, write_changes
from session_service.store.session_rows import (
    ANSWER,
    CHANGED,
    CHANGED_COLUMNS,
    SESSION,
    SESSION_COLUMNS,
    session_from,
)
from tests.session.world import World


@pytest.mark.parametrize(
    ("table", "of", "columns"), [("sessions", Session, SESSION), ("answers", GivenAnswer, ANSWER.columns)]
)
async def test_the_columns_are_the_fields_and_have_the_types_of_the_table(
    world: World, table: str, of: type, columns: str
) -> None:
    types = types_of(columns)
    assert list(types) == [field.name for field in fields(of)]
    rows = await world.truth.fetch(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1", table
    )
    names = {"timestamptz": "timestamp with time zone", "smallint[]": "ARRAY"}
    assert {row["column_name"]: row["data_type"] for row in rows} == {
        column: names.get(of_type, of_type) for column, of_type in types.items()
    }


def types_of(columns: str) -> dict[str, str]:
    return dict(column.strip().split(maxsplit=1) for column in columns.split(","))


def test_only_columns_of_sessions_change() -> None:
    changed = types_of(CHANGED.columns)
    assert changed.items() < types_of(SESSION).items()
    assert [*changed] == ["user_id", "session_id", *CHANGED_COLUMNS]


async def test_the_update_of_an_answer_touches_no_index(world: World) -> None:
    """It stays on its page (HOT): what has an index keeps its value, to the microsecond."""
    user, test = await world.learner(), await world.test(time_limit_seconds=60)
    await world.started(user, test, "k")
    everything = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE user_id = $1"  # noqa: S608 - our own names
    (row,) = await world.truth.fetch(everything, user)
    session = replace(session_from(row), answered=1, answers_given=1, last_answer_at=datetime.now(UTC))
    async with world.truth.transaction():
        rows, hot = await world.updates()
        await write_changes(world.truth, Changes(sessions=[session]))
        assert await world.updates() == (rows + 1, hot + 1)


INSERT_SESSION = """
    INSERT INTO sessions (user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                          difficulty, metadata, total, started_at, deadline_at, closed_at, close_reason)
    VALUES (gen_random_uuid()::text, gen_random_uuid(), gen_random_uuid(), 't', 1, 1, $1, '', 'practice', '',
            jsonb_build_object('a', repeat('\u00e9', $2)), 1, $3::text::timestamptz,
            $4::text::timestamptz, $5::text::timestamptz, $6)
"""
NOON = "2026-11-21 12:00+00"


@pytest.mark.parametrize(
    ("constraint", "row"),
    [
        ("", ("active", 2000, NOON, None, None, None)),
        ("sessions_metadata_bounded", ("active", 5000, NOON, None, None, None)),
        ("", ("active", 5000, "2026-01-01 12:00+00", None, None, None)),
        ("sessions_times_in_range", ("active", 1, "-infinity", None, None, None)),
        ("sessions_times_in_range", ("active", 1, NOON, "infinity", None, None)),
        ("sessions_times_in_range", ("abandoned", 1, NOON, None, "2100-01-01 00:00+00", "abandoned")),
        ("sessions_close_reason_known", ("abandoned", 1, NOON, None, NOON, "bored")),
        ("", ("expired", 1, NOON, None, NOON, "idle")),
    ],
)
async def test_the_table_bounds_what_a_session_may_hold(
    world: World, constraint: str, row: tuple[object, ...]
) -> None:
    if not constraint:
        await world.truth.execute(INSERT_SESSION, *row)
        return
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await world.truth.execute(INSERT_SESSION, *row)
    assert refusal.value.constraint_name == constraint


@pytest.mark.parametrize("moment", ["-infinity", "infinity", "0001-01-01 00:00+00", "2100-01-01 00:00+00"])
async def test_the_table_bounds_when_an_answer_was_given(world: World, moment: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await world.truth.execute(
            "INSERT INTO answers (user_id, session_id, question_id, attempt, choice, correct, occurred_at,"
            " answered_at) VALUES ('u', gen_random_uuid(), 'q', 1, '', true, $1::text::timestamptz, now())",
            moment,
        )
    assert refusal.value.constraint_name == "answers_times_in_range"


@pytest.mark.parametrize(
    ("column", "longest"), [("user_id", 128), ("test_id", 128), ("title", 300), ("difficulty", 50)]
)
async def test_the_table_bounds_the_texts_of_a_session(world: World, column: str, longest: int) -> None:
    await world.truth.execute(INSERT_SESSION, "active", 1, NOON, None, None, None)
    one = "(SELECT session_id FROM sessions LIMIT 1)"
    change = f"UPDATE sessions SET {column} = repeat('é', $1) WHERE session_id = {one}"  # noqa: S608 - our own names
    await world.truth.execute(change, longest)
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await world.truth.execute(change, longest + 1)
    assert refusal.value.constraint_name == "sessions_texts_bounded"
