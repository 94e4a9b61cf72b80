"""Editions of tests, read once and kept: a revision never changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import asyncpg

from chassis.postgres import Connection
from session_service.domain.tests import Edition, Question
from session_service.store.rows import definition_from, question_from

QUESTIONS_KEPT_MAX = 100_000


class EditionKey(NamedTuple):
    """Names what a session asks: its revision of the test. Its content is frozen."""

    test_id: str
    revision: int


class EditionCache:
    """A bounded cache that is never stale: the content of a revision does not change."""

    def __init__(self, *, questions_max: int = QUESTIONS_KEPT_MAX) -> None:
        self._questions_max = questions_max
        self._questions_kept = 0
        self._editions: OrderedDict[EditionKey, Edition] = OrderedDict()

    async def get(self, connection: Connection, wanted: Iterable[EditionKey]) -> dict[EditionKey, Edition]:
        """The editions of these keys, from memory or else from the database."""
        found: dict[EditionKey, Edition] = {}
        missing: set[EditionKey] = set()
        for key in wanted:
            edition = self._editions.get(key)
            if edition is None:
                missing.add(key)
            else:
                self._editions.move_to_end(key)
                found[key] = edition
        if missing:
            for key, edition in (await _load(connection, sorted(missing))).items():
                self._keep(key, edition)
                found[key] = edition
        return found

    def _keep(self, key: EditionKey, edition: Edition) -> None:
        if key in self._editions:  # another batch has read it at the same time
            return
        self._editions[key] = edition
        self._questions_kept += _weight(edition)
        while self._questions_kept > self._questions_max and len(self._editions) > 1:
            _, dropped = self._editions.popitem(last=False)
            self._questions_kept -= _weight(dropped)


def _weight(edition: Edition) -> int:
    return 1 + edition.total


async def _load(connection: Connection, keys: Sequence[EditionKey]) -> dict[EditionKey, Edition]:
    revisions = await connection.fetch(
        """
        SELECT revisions.test_id, revisions.revision, revisions.question_ids,
               title, kind, difficulty, question_count, time_limit_seconds, max_attempts, credit_cost,
               counts_toward_daily_limit, pass_score, specialization, xp, min_engaged_seconds, identity_checks
          FROM unnest($1::text[], $2::integer[]) AS wanted (test_id, revision)
          JOIN test_revisions AS revisions
            ON revisions.test_id = wanted.test_id AND revisions.revision = wanted.revision
        """,
        [key.test_id for key in keys],
        [key.revision for key in keys],
    )
    asked = sorted(
        {(row["test_id"], question_id) for row in revisions for question_id in row["question_ids"]}
    )
    questions = await _questions(connection, asked) if asked else {}
    rows = {EditionKey(row["test_id"], row["revision"]): row for row in revisions}
    return {key: _edition(rows[key], questions) for key in keys if key in rows}


async def _questions(
    connection: Connection, asked: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Question]:
    rows = await connection.fetch(
        """
        SELECT questions.test_id, questions.question_id, prompt, choices, accepted, difficulty, subject
          FROM unnest($1::text[], $2::text[]) AS asked (test_id, question_id)
          JOIN questions ON questions.test_id = asked.test_id AND questions.question_id = asked.question_id
        """,
        [test_id for test_id, _ in asked],
        [question_id for _, question_id in asked],
    )
    return {(row["test_id"], row["question_id"]): question_from(row) for row in rows}


def _edition(row: asyncpg.Record, questions: dict[tuple[str, str], Question]) -> Edition:
    return Edition(
        test_id=row["test_id"],
        revision=row["revision"],
        definition=definition_from(row),
        questions=tuple(questions[row["test_id"], question_id] for question_id in row["question_ids"]),
    )
