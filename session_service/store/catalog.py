"""Tests as an administrator defines them, and their questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from chassis.postgres import Connection, Database
from session_service.domain.tests import Definition, NamedTest, Question
from session_service.store.rows import definition_from, question_from


@dataclass(frozen=True, slots=True)
class CurrentTest:
    """A test under its lock: its newest definition (None if it was made just now) and its questions."""

    definition: Definition | None
    question_ids: tuple[str, ...]
    question_total: int


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """What becomes of a test: a new revision if it has a definition, and questions to insert or replace."""

    definition: Definition | None = None
    created: Sequence[Question] = ()
    updated: Sequence[Question] = ()


T = TypeVar("T")
Decide = Callable[[CurrentTest, Mapping[str, Question]], tuple[T, CatalogChange]]


class CatalogStore:
    """Reads and changes tests; each change is one transaction that has locked the test."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def change_test(
        self,
        test_id: str,
        question_ids: Sequence[str],
        decide: Decide[T],
        *,
        create: bool,
        deadline: float,
    ) -> T | None:
        """Lock the test, ask `decide` with it and those named questions that exist, write the change.

        Returns None when there is no such test and it is not to be created. A new revision asks the first
        `question_count` questions in the order in which they were imported. Raises LockTimeout.
        """

        async def work(connection: Connection) -> T | None:
            if create:
                await connection.execute(
                    "INSERT INTO tests (test_id) VALUES ($1) ON CONFLICT DO NOTHING", test_id
                )
            if not await connection.fetchval("SELECT true FROM tests WHERE test_id = $1 FOR UPDATE", test_id):
                return None
            current = await _read_current(connection, test_id)
            if current.definition is None and not create:
                return None
            known = await _read_questions(connection, test_id, question_ids) if question_ids else {}
            result, change = decide(current, known)
            await _write(connection, test_id, current, change)
            return result

        return await self._database.write(work, deadline=deadline, name="change_test")

    async def get_tests(self, test_ids: Sequence[str], *, deadline: float) -> dict[str, NamedTest]:
        """These tests as they stand now; those that do not exist are absent."""

        async def work(connection: Connection) -> dict[str, NamedTest]:
            rows = await connection.fetch(
                """
                SELECT test_id, title, kind, difficulty, question_count, time_limit_seconds, max_attempts,
                       credit_cost, counts_toward_daily_limit, pass_score, specialization, xp,
                       min_engaged_seconds, identity_checks
                  FROM tests
                  JOIN test_revisions USING (test_id, revision)
                 WHERE test_id = ANY($1::text[])
                """,
                list(set(test_ids)),
            )
            return {row["test_id"]: NamedTest(row["test_id"], definition_from(row)) for row in rows}

        return await self._database.read(work, deadline=deadline, name="get_tests")

    async def list_tests(self, *, after: str, limit: int, deadline: float) -> list[NamedTest]:
        """Tests in the order of their ids, those after `after`."""

        async def work(connection: Connection) -> list[NamedTest]:
            rows = await connection.fetch(
                """
                SELECT test_id, title, kind, difficulty, question_count, time_limit_seconds, max_attempts,
                       credit_cost, counts_toward_daily_limit, pass_score, specialization, xp,
                       min_engaged_seconds, identity_checks
                  FROM tests
                  JOIN test_revisions USING (test_id, revision)
                 WHERE test_id > $1
                 ORDER BY test_id
                 LIMIT $2
                """,
                after,
                limit,
            )
            return [NamedTest(row["test_id"], definition_from(row)) for row in rows]

        return await self._database.read(work, deadline=deadline, name="list_tests")


async def _read_current(connection: Connection, test_id: str) -> CurrentTest:
    row = await connection.fetchrow(
        """
        SELECT question_total, question_ids,
               title, kind, difficulty, question_count, time_limit_seconds, max_attempts, credit_cost,
               counts_toward_daily_limit, pass_score, specialization, xp, min_engaged_seconds, identity_checks
          FROM tests
          LEFT JOIN test_revisions USING (test_id, revision)
         WHERE test_id = $1
        """,
        test_id,
    )
    if row is None:
        raise AssertionError("the row is locked")
    if row["question_ids"] is None:
        return CurrentTest(None, (), row["question_total"])
    return CurrentTest(definition_from(row), tuple(row["question_ids"]), row["question_total"])


async def _read_questions(
    connection: Connection, test_id: str, question_ids: Sequence[str]
) -> dict[str, Question]:
    rows = await connection.fetch(
        """
        SELECT question_id, prompt, choices, accepted, difficulty, subject
          FROM questions
         WHERE test_id = $1 AND question_id = ANY($2::text[])
        """,
        test_id,
        list(question_ids),
    )
    return {row["question_id"]: question_from(row) for row in rows}


async def _write(connection: Connection, test_id: str, current: CurrentTest, change: CatalogChange) -> None:
    if change.created:
        await _insert_questions(connection, test_id, current.question_total, change.created)
    if change.updated:
        await _update_questions(connection, test_id, change.updated)
    definition = change.definition or current.definition
    if definition is None:
        raise ValueError("a test needs a definition")
    question_ids = await _first_questions(connection, test_id, definition.question_count)
    revised = definition != current.definition or question_ids != list(current.question_ids)
    if revised or change.created or change.updated:
        await connection.execute(
            """
            UPDATE tests
               SET revision = revision + $2::integer, content_version = content_version + 1,
                   question_total = question_total + $3::integer, updated_at = now()
             WHERE test_id = $1
            """,
            test_id,
            int(revised),
            len(change.created),
        )
    if revised:
        await _insert_revision(connection, test_id, definition, question_ids)


async def _first_questions(connection: Connection, test_id: str, count: int) -> list[str]:
    rows = await connection.fetch(
        "SELECT question_id FROM questions WHERE test_id = $1 ORDER BY position LIMIT $2", test_id, count
    )
    return [row["question_id"] for row in rows]


async def _insert_revision(
    connection: Connection, test_id: str, definition: Definition, question_ids: Sequence[str]
) -> None:
    """The revision that `tests` names already."""
    await connection.execute(
        """
        INSERT INTO test_revisions (
            test_id, revision, question_ids, title, kind, difficulty, question_count, time_limit_seconds,
            max_attempts, credit_cost, counts_toward_daily_limit, pass_score, specialization, xp,
            min_engaged_seconds, identity_checks
        )
        SELECT test_id, revision, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
          FROM tests
         WHERE test_id = $1
        """,
        test_id,
        list(question_ids),
        definition.title,
        definition.kind,
        definition.difficulty,
        definition.question_count,
        definition.time_limit_seconds,
        definition.max_attempts,
        definition.credit_cost,
        definition.counts_toward_daily_limit,
        definition.pass_score,
        definition.specialization,
        definition.xp,
        definition.min_engaged_seconds,
        definition.identity_checks,
    )


async def _insert_questions(
    connection: Connection, test_id: str, known: int, questions: Sequence[Question]
) -> None:
    """Append questions, in their order, behind the `known` ones that the test has."""
    await connection.execute(
        """
        INSERT INTO questions (test_id, question_id, position, prompt, choices, accepted, difficulty, subject)
        SELECT $1, question_id, position, prompt, choices, accepted, difficulty, subject
          FROM jsonb_to_recordset($2::text::jsonb)
               AS question (
                   question_id text, position integer, prompt text, choices text[], accepted text[],
                   difficulty text, subject text
               )
        """,
        test_id,
        _as_json([_fields(question) | {"position": known + at} for at, question in enumerate(questions)]),
    )


async def _update_questions(connection: Connection, test_id: str, questions: Sequence[Question]) -> None:
    await connection.execute(
        """
        UPDATE questions
           SET prompt = new.prompt, choices = new.choices, accepted = new.accepted,
               difficulty = new.difficulty, subject = new.subject, updated_at = now()
          FROM jsonb_to_recordset($2::text::jsonb)
               AS new (
                   question_id text, prompt text, choices text[], accepted text[],
                   difficulty text, subject text
               )
         WHERE questions.test_id = $1 AND questions.question_id = new.question_id
        """,
        test_id,
        _as_json([_fields(question) for question in questions]),
    )


def _fields(question: Question) -> dict[str, Any]:
    return {
        "question_id": question.question_id,
        "prompt": question.prompt,
        "choices": question.choices,
        "accepted": question.accepted,
        "difficulty": question.difficulty,
        "subject": question.subject,
    }


def _as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as one argument: arrays of arrays have no form that `unnest` takes apart rightly."""
    return orjson.dumps(rows).decode()
