"""Tests as an administrator defines them, and their questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.postgres.rows import as_rows
from chassis.rpc.paging import Page
from session_service.domain.tests import AskedSize, Definition, NamedTest, Question
from session_service.store.catalog_rows import (
    DEFINITION,
    DEFINITION_COLUMNS,
    QUESTION,
    QUESTION_COLUMNS,
    definition_from,
    question_from,
)

# How long to wait for a test that another transaction has locked. No start waits for this lock.
WAITING_MS_MAX = 1000
PASSING_OVER_MS = 20


@dataclass(frozen=True, slots=True)
class CurrentTest:
    """A test under its lock: its newest revision, 0 and without a definition if it was made just now."""

    revision: int
    definition: Definition | None
    question_total: int


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """What becomes of a test: another definition, questions to add, and questions to replace.

    `field_at_fault` is what to name when the questions of a session would become too large.
    """

    field_at_fault: str
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
        wait: bool,
        deadline: float,
    ) -> T | None:
        """Locks the test, asks `decide`, and writes the change.

        `decide` gets the test, and those of the named questions that the test has. Every change makes a new
        revision. Its sessions ask `question_count` questions of all that the test has then. Earlier revisions
        keep the content that they had. Returns None when there is no such test and it is not to be created.

        Raises:
            LockTimeout: the test is locked: now, or with `wait` for too long.
            ServiceError: what `decide` raises, or INVALID_ARGUMENT when a session would become too large.
        """

        async def work(connection: Connection) -> T | None:
            if create:
                await connection.execute(
                    "INSERT INTO tests (test_id) VALUES ($1) ON CONFLICT DO NOTHING", test_id
                )
            if not await connection.fetchval("SELECT true FROM tests WHERE test_id = $1 FOR UPDATE", test_id):
                return None
            current = await _read_current(connection, test_id)
            known = await _read_questions(connection, test_id, question_ids) if question_ids else {}
            result, change = decide(current, known)
            await _write(connection, test_id, current, change)
            return result

        return await self._database.write(
            work,
            deadline=deadline,
            lock_timeout_ms=WAITING_MS_MAX if wait else PASSING_OVER_MS,
            name="change_test",
        )

    async def get_tests(self, test_ids: Sequence[str], *, deadline: float) -> dict[str, NamedTest]:
        """These tests as they stand now; those that do not exist are absent."""

        async def work(connection: Connection) -> dict[str, NamedTest]:
            rows = await connection.fetch(_GET_TESTS, list(set(test_ids)))
            return {row["test_id"]: NamedTest(row["test_id"], definition_from(row)) for row in rows}

        return await self._database.read(work, deadline=deadline, name="get_tests")

    async def list_tests(self, item: Item[None], page: Page) -> list[NamedTest]:
        """Tests in the order of their ids."""
        (after,) = page.after or ("",)

        async def work(connection: Connection) -> list[NamedTest]:
            rows = await connection.fetch(_LIST_TESTS, after, page.limit)
            return [NamedTest(row["test_id"], definition_from(row)) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_tests")


_TESTS = f"SELECT test_id, revision, question_total, {DEFINITION_COLUMNS} FROM tests"
_GET_TESTS = f"{_TESTS} JOIN test_revisions USING (test_id, revision) WHERE test_id = ANY($1::text[])"
_LIST_TESTS = f"""
    {_TESTS} JOIN test_revisions USING (test_id, revision)
     WHERE test_id > $1
     ORDER BY test_id
     LIMIT $2
"""
_GET_NEW_OR_OLD_TEST = f"{_TESTS} LEFT JOIN test_revisions USING (test_id, revision) WHERE test_id = $1"

_READ_QUESTIONS = f"""
    SELECT {QUESTION_COLUMNS}
      FROM questions
     WHERE test_id = $1 AND until_revision IS NULL AND question_id = ANY($2::text[])
"""

# The sizes are those of the JSON that the gateway writes: to_json escapes as the gateway does. The names and
# the punctuation around the three values take 37 bytes.
_QUESTION_SIZES = """
    SELECT question_id,
           octet_length(to_json(question_id)::text) + octet_length(to_json(prompt)::text)
               + octet_length(array_to_json(choices)::text) + 37 AS shown_bytes,
           octet_length(array_to_json(accepted)::text) AS accepted_bytes
      FROM questions
     WHERE test_id = $1 AND until_revision IS NULL
     ORDER BY position
"""

_INSERT_QUESTIONS = f"""
    INSERT INTO questions (test_id, since_revision, position, {QUESTION_COLUMNS})
    SELECT $1, $2, $3 + place - 1, {QUESTION_COLUMNS}
      FROM ROWS FROM (json_to_recordset($4) AS ({QUESTION}))
           WITH ORDINALITY AS created ({QUESTION_COLUMNS}, place)
"""

# A mended question keeps its place.
_REPLACE_QUESTIONS = f"""
    WITH mended AS (
        SELECT {QUESTION_COLUMNS} FROM json_to_recordset($3) AS mended ({QUESTION})
    ), ended AS (
        UPDATE questions
           SET until_revision = $2, updated_at = now()
          FROM mended
         WHERE questions.test_id = $1 AND questions.question_id = mended.question_id
           AND questions.until_revision IS NULL
        RETURNING questions.question_id AS ended_id, questions.position
    )
    INSERT INTO questions (test_id, since_revision, position, {QUESTION_COLUMNS})
    SELECT $1, $2, ended.position, {QUESTION_COLUMNS}
      FROM ended
      JOIN mended ON mended.question_id = ended.ended_id
"""

_INSERT_REVISION = f"""
    INSERT INTO test_revisions (test_id, revision, question_ids, {DEFINITION_COLUMNS})
    SELECT $1, $2, $3, {DEFINITION_COLUMNS}
      FROM json_to_recordset($4) AS revision ({DEFINITION})
"""

_MOVE_ON = """
    UPDATE tests
       SET revision = $2, question_total = question_total + $3, updated_at = now()
     WHERE test_id = $1
"""


async def _read_current(connection: Connection, test_id: str) -> CurrentTest:
    (row,) = await connection.fetch(_GET_NEW_OR_OLD_TEST, test_id)
    definition = definition_from(row) if row["revision"] else None
    return CurrentTest(row["revision"], definition, row["question_total"])


async def _read_questions(
    connection: Connection, test_id: str, question_ids: Sequence[str]
) -> dict[str, Question]:
    rows = await connection.fetch(_READ_QUESTIONS, test_id, list(question_ids))
    return {row["question_id"]: question_from(row) for row in rows}


async def _write(connection: Connection, test_id: str, current: CurrentTest, change: CatalogChange) -> None:
    definition = change.definition or current.definition
    if definition is None:
        raise ValueError("a test needs a definition")
    if definition == current.definition and not change.created and not change.updated:
        return
    revision = current.revision + 1
    if change.updated:
        await connection.execute(_REPLACE_QUESTIONS, test_id, revision, as_rows(change.updated))
    if change.created:
        await connection.execute(
            _INSERT_QUESTIONS, test_id, revision, current.question_total, as_rows(change.created)
        )
    pool = await connection.fetch(_QUESTION_SIZES, test_id)
    sizes = [(row["shown_bytes"], row["accepted_bytes"]) for row in pool]
    AskedSize.of(sizes, definition.question_count).require_bounded(change.field_at_fault)
    question_ids = [row["question_id"] for row in pool[: definition.question_count]]
    await connection.execute(_INSERT_REVISION, test_id, revision, question_ids, as_rows([asdict(definition)]))
    await connection.execute(_MOVE_ON, test_id, revision, len(change.created))
