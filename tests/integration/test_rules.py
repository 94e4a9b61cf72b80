"""The rules of the tables that are written most: each refuses a row under its own name."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import asyncpg
import pytest

from chassis.postgres import Connection
from homeroom.services import STORES
from tests.support.databases import Databases

NOON = "2026-11-21T12:00:00Z"
ANN = {"user_id": "ann"}
LATE, EARLY = "'2100-01-01 00:00+00'", "'1999-12-31 23:59+00'"
LONG = "repeat('é', 300)"

# For each table: a row that it takes, and which rule each change breaks. A change is the end of an UPDATE.
Case = tuple[Mapping[str, object], Mapping[str, str]]
SESSION: dict[str, Case] = {
    "sessions": (
        ANN
        | {"session_id": "0" * 32, "hold_id": "1" * 32, "test_id": "t", "revision": 1, "attempt": 1}
        | {"state": "active", "title": "", "kind": "quiz", "difficulty": "", "metadata": {}, "total": 3}
        | {"answered": 0, "solved": 0, "answers_given": 0, "answers_correct": 0, "version": 1}
        | {"paused_seconds": 0, "engaged_seconds": 0, "started_at": NOON},
        {
            "attempt = 0": "attempt_positive",
            "attempts_before = 1": "attempts_before_in_range",
            "attempts_before = -1": "attempts_before_in_range",
            "state = 'expired', closed_at = now(), close_reason = 'bored'": "close_reason_known",
            "state = 'expired'": "closed_or_live",
            "closed_at = now()": "closed_or_live",
            "answered = 1": "counts_add_up",
            "answers_correct = 1": "counts_add_up",
            "solved = -1": "counts_add_up",
            "answered = 4, answers_given = 4": "counts_add_up",
            "seed = 1": "draw_bounded",
            "drawn = '{1,2}'": "draw_bounded",
            "drawn = '{1,2,20000}'": "draw_bounded",
            "drawn = '{1,2,-1}'": "draw_bounded",
            "identity_due_seconds = 1": "identity_check_lapses_after_it_is_due",
            "identity_due_seconds = 1, identity_lapse_seconds = 1": "identity_check_lapses_after_it_is_due",
            f"identity_locked_at = {LATE}": "identity_locked_in_range",
            "metadata = '[]'": "metadata_bounded",
            "paused_at = now()": "paused_until_known",
            "state = 'paused'": "paused_until_known",
            f"paused_at = {EARLY}, pause_until = now()": "pauses_in_range",
            f"paused_at = now(), pause_until = {LATE}": "pauses_in_range",
            "paused_seconds = -1": "pauses_in_range",
            "engaged_seconds = 'NaN'": "pauses_in_range",
            "heartbeat_seq = 0": "presence_in_range",
            f"seen_at = {LATE}": "presence_in_range",
            f"left_at = {EARLY}": "presence_in_range",
            f"lease_check_at = {LATE}": "presence_in_range",
            "score = 1.1": "score_is_a_share",
            "start_request_id = repeat('r', 129)": "start_ids_bounded",
            "start_trace_id = 'short'": "start_ids_bounded",
            "state = 'odd', closed_at = now(), close_reason = 'idle'": "state_known",
            "submitted_at = now()": "submitted_when_completed",
            "user_id = ''": "texts_bounded",
            f"test_id = {LONG}": "texts_bounded",
            f"difficulty = {LONG}": "texts_bounded",
            f"started_at = {EARLY}": "times_in_range",
            f"deadline_at = {LATE}": "times_in_range",
            "last_answer_at = 'infinity'": "times_in_range",
        },
    ),
    "answers": (
        ANN
        | {"session_id": "0" * 32, "question_id": "q", "attempt": 1, "choice": "", "correct": True}
        | {"answered_at": NOON, "occurred_at_clamped": False},
        {
            "attempt = 0": "attempt_positive",
            f"question_id = {LONG}": "choice_bounded",
            "choice = repeat('é', 10001)": "choice_bounded",
            "version = 1": "ids_bounded",
            "trace_id = 'short'": "ids_bounded",
            f"request_id = {LONG}": "ids_bounded",
            f"answered_at = {LATE}": "times_in_range",
            f"occurred_at = {EARLY}": "times_in_range",
        },
    ),
    "session_events": (
        ANN
        | {"session_id": "0" * 32, "version": 2, "number": 1, "kind": "paused", "happened_at": NOON}
        | {"actor_id": "", "request_id": "", "reason": "", "note": ""},
        {
            "kind = 'bored'": "kind_known",
            "version = 0": "numbers_bounded",
            "number = 1001": "numbers_bounded",
            f"actor_id = {LONG}": "texts_bounded",
            f"request_id = {LONG}": "texts_bounded",
            f"reason = {LONG}": "texts_bounded",
            "note = repeat('é', 501)": "texts_bounded",
            "trace_id = 'short'": "texts_bounded",
            f"happened_at = {LATE}": "time_in_range",
        },
    ),
}
CHASSIS: dict[str, Case] = {
    "idempotency_keys": (
        ANN
        | {"method": "m", "key": "k", "state": "completed", "fingerprint": "\\x", "response": "\\x"}
        | {"traceparent": "", "content": "", "created_at": NOON},
        {
            "response = NULL": "completed_has_response",
            "state = 'pending', response = NULL": "completed_or_aborted",
            f"user_id = {LONG}": "lengths_bounded",
            f"method = {LONG}": "lengths_bounded",
            "key = ''": "lengths_bounded",
            "fingerprint = decode(repeat('ab', 65), 'hex')": "lengths_bounded",
            f"traceparent = {LONG}": "lengths_bounded",
            "content = repeat('é', 1025)": "lengths_bounded",
            "response = decode(repeat('ab', 4194305), 'hex')": "response_bounded",
        },
    ),
    "outbox": (
        ANN
        | {"event_id": "0" * 32, "topic": "t", "payload": "\\x", "traceparent": ""}
        | {"created_at": NOON, "available_at": NOON, "attempts": 0},
        {
            "attempts = -1": "attempts_not_negative",
            f"user_id = {LONG}": "lengths_bounded",
            "topic = ''": "lengths_bounded",
            f"traceparent = {LONG}": "lengths_bounded",
            "last_error = repeat('é', 501)": "lengths_bounded",
            "parked_at = now(), leased_until = now()": "parked_is_not_leased",
            "payload = decode(repeat('ab', 1048577), 'hex')": "payload_bounded",
        },
    ),
}
SUBSCRIPTION: dict[str, Case] = {
    "holds": (
        ANN
        | {"hold_id": "0" * 32, "state": "open", "tests": 1, "credits": 0, "subject": "s", "method": "m"}
        | {"idempotency_key": "k", "day": "2026-11-21", "placed_at": NOON},
        {
            "tests = 2": "amounts_bounded",
            "credits = 1000001": "amounts_bounded",
            "credits = -1": "credits_not_negative",
            "state = 'committed'": "resolved_or_open",
            "resolved_at = now()": "resolved_or_open",
            "state = 'odd', resolved_at = now()": "state_known",
            "tests = -1": "tests_not_negative",
            "user_id = ''": "texts_bounded",
            "subject = repeat('é', 301)": "texts_bounded",
            f"method = {LONG}": "texts_bounded",
            f"idempotency_key = {LONG}": "texts_bounded",
        },
    ),
}
PROGRESS: dict[str, Case] = {
    "learner_statistics": (
        ANN
        | {"completed_sessions": 0, "questions_answered": 0, "answers": 2, "correct": 1, "xp": 0}
        | {"version": 0, "epoch": 0, "enrolled": 0, "completed_lessons": 0},
        {
            "completed_sessions = -1": "completed_sessions_not_negative",
            "correct = 3": "correct_within_answers",
            "epoch = -1": "learning_not_negative",
            "enrolled = -1": "learning_not_negative",
            "completed_lessons = -1": "learning_not_negative",
            "questions_answered = -1": "questions_answered_not_negative",
            "version = 1": "versioned_once_changed",
            "xp = -1": "xp_not_negative",
        },
    ),
    "session_results": (
        ANN
        | {"session_id": "s", "test_id": "t", "specialization": "", "completed": True, "answered": 1}
        | {"total": 2, "answers": 2, "correct": 1, "score": 0.5, "passed": True, "xp": 1}
        | {"closed_at": NOON, "recorded_at": NOON},
        {
            "answered = 3": "answered_within_answers",
            f"closed_at = {LATE}": "closed_at_within_bounds",
            f"closed_at = {EARLY}": "closed_at_within_bounds",
            "correct = 3": "correct_within_answers",
            "answers = 100000001": "counts_within_bounds",
            "total = 100000001": "counts_within_bounds",
            "session_id = ''": "ids_within_bounds",
            f"test_id = {LONG}": "ids_within_bounds",
            f"specialization = {LONG}": "ids_within_bounds",
            "score = -0.1": "score_is_a_share",
            "total = -1": "total_not_negative",
            "completed = false": "xp_only_when_completed",
            "xp = -1": "xp_only_when_completed",
            "xp = 1000001": "xp_within_bounds",
        },
    ),
    "specialization_progress": (
        ANN
        | {"specialization": "s", "xp": 0, "level": 1, "max_level": 2, "granted_level": 0, "epoch": 0}
        | {"catalog_version": 0, "version": 1, "updated_at": NOON},
        {
            "epoch = -1": "epoch_not_negative",
            "granted_level = 2": "granted_level_holds",
            "specialization = ''": "ids_within_bounds",
            f"user_id = {LONG}": "ids_within_bounds",
            "level = 3": "level_within_catalog",
            "version = 0": "versions_not_negative",
            "catalog_version = -1": "versions_not_negative",
            "xp = -1": "xp_not_negative",
        },
    ),
    "enrollments": (
        ANN
        | {"course_id": "c", "epoch": 0, "since_revision": 1, "completed_lessons": 0, "enrolled_at": NOON},
        {
            "user_id = ''": "bounded",
            "epoch = -1": "bounded",
            "since_revision = 0": "bounded",
            "completed_lessons = 10001": "bounded",
            "completed_at = now()": "completed_with_lessons",
        },
    ),
    "lesson_completions": (
        ANN
        | {"course_id": "c", "epoch": 0, "module_id": "m", "lesson_id": "l", "revision": 1, "xp": 0}
        | {"occurred_at": NOON, "completed_at": NOON},
        {
            "user_id = ''": "bounded",
            "epoch = -1": "bounded",
            "revision = 0": "bounded",
            "xp = 1000001": "bounded",
            f"occurred_at = {LATE}": "bounded",
            "occurred_at = 'infinity'": "bounded",
        },
    ),
}
CASES = {"session": SESSION | CHASSIS, "subscription": SUBSCRIPTION | CHASSIS, "progress": PROGRESS | CHASSIS}


@pytest.fixture(scope="module")
async def stores(databases: Databases) -> AsyncIterator[dict[str, Connection]]:
    """A connection to an empty database of each service, which looks at no foreign key."""
    async with AsyncExitStack() as stack:
        connections = {}
        for store in STORES:
            database = await stack.enter_async_context(databases.fresh(store))
            connections[store] = await asyncpg.connect(database.superuser)
            stack.push_async_callback(connections[store].close)
            await connections[store].execute("SET session_replication_role = replica; SET TimeZone = 'UTC'")
        yield connections


@pytest.mark.parametrize(("store", "table"), [(store, table) for store in CASES for table in CASES[store]])
async def test_each_rule_of_a_table_refuses_a_row_under_its_own_name(
    stores: dict[str, Connection], store: str, table: str
) -> None:
    connection = stores[store]
    row, changes = CASES[store][table]
    columns = ", ".join(row)
    await connection.execute(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_record(NULL::{table}, $1)",  # noqa: S608 - our own names
        json.dumps(row),
    )
    for change, rule in changes.items():
        with pytest.raises(asyncpg.CheckViolationError) as refusal:
            await connection.execute(f"UPDATE {table} SET {change}")  # noqa: S608 - our own
        assert (change, refusal.value.constraint_name) == (change, f"{table}_{rule}")
    (source,) = await sources(connection, f"{table}_broken_rule_%")
    assert {f"{table}_{rule}" for rule in changes.values()} == set(rules_in(source))


@pytest.mark.parametrize("store", CASES)
async def test_a_rules_function_is_called_with_the_columns_that_its_parameters_are_named_after(
    stores: dict[str, Connection], store: str
) -> None:
    rows = await stores[store].fetch(
        """
        SELECT constraint_.conrelid::regclass::text AS table_name, constraint_.conname AS name,
               pg_get_expr(constraint_.conbin, constraint_.conrelid) AS condition,
               function.proname AS function, array_to_string(function.proargnames, ', ') AS parameters
          FROM pg_depend AS needed
          JOIN pg_constraint AS constraint_ ON constraint_.oid = needed.objid
          JOIN pg_proc AS function ON function.oid = needed.refobjid
         WHERE needed.classid = 'pg_constraint'::regclass AND needed.refclassid = 'pg_proc'::regclass
           AND function.proname <> 'refuse_row'
        """
    )
    assert {row["table_name"] for row in rows} == CASES[store].keys()
    for row in rows:
        assert row["condition"] == f"refuse_row({row['function']}({row['parameters']}))"
        number = row["name"].removeprefix(f"{row['table_name']}_rules_")
        assert row["function"] == f"{row['table_name']}_broken_rule_{number}"


@pytest.mark.parametrize("store", CASES)
async def test_the_first_broken_rule_by_name_is_told_as_postgresql_does(
    stores: dict[str, Connection], store: str
) -> None:
    for source in await sources(stores[store], r"%\_broken\_rule\_%"):
        assert rules_in(source) == sorted(rules_in(source))
        assert source.count(" WHEN ") == len(rules_in(source))


async def sources(connection: Connection, name: str) -> list[str]:
    rows = await connection.fetch("SELECT prosrc FROM pg_proc WHERE proname LIKE $1", name)
    return [row["prosrc"] for row in rows]


def rules_in(source: str) -> list[str]:
    return re.findall(r"THEN '(\w+)'", source)
