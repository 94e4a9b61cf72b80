"""Editions of tests, read once and kept: what a revision asks never changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from chassis.postgres import Connection
from chassis.postgres.rows import as_rows
from session_service.domain.tests import Edition, Question
from session_service.store.catalog_rows import (
    DEFINITION_COLUMNS,
    HOLDS_FOR_REVISION,
    QUESTION_COLUMNS,
    definition_from,
    question_from,
)

CHARACTERS_KEPT_MAX = 64 * 1024 * 1024
# About what a question costs besides its texts.
_CHARACTERS_PER_QUESTION = 1000


class EditionKey(NamedTuple):
    """Names what a session asks: the revision of the test that it began with."""

    test_id: str
    revision: int


class EditionCache:
    """A bounded cache of editions, the least recently used dropped first; nothing in it can become stale."""

    def __init__(self, *, characters_max: int = CHARACTERS_KEPT_MAX) -> None:
        self._characters_max = characters_max
        self._characters_kept = 0
        self._editions: OrderedDict[EditionKey, tuple[Edition, int]] = OrderedDict()

    async def get(self, connection: Connection, keys: Iterable[EditionKey]) -> dict[EditionKey, Edition]:
        """The editions of these keys, from memory or else from the database; unknown keys are absent."""
        found: dict[EditionKey, Edition] = {}
        missing: set[EditionKey] = set()
        for key in keys:
            kept = self._editions.get(key)
            if kept is None:
                missing.add(key)
            else:
                self._editions.move_to_end(key)
                found[key] = kept[0]
        if missing:
            for key, edition in (await _load(connection, missing)).items():
                self._keep(key, edition)
                found[key] = edition
        return found

    def _keep(self, key: EditionKey, edition: Edition) -> None:
        if key in self._editions:  # another batch has read it at the same time
            return
        size = _characters_of(edition)
        self._editions[key] = edition, size
        self._characters_kept += size
        while self._characters_kept > self._characters_max and len(self._editions) > 1:
            _, (_, dropped) = self._editions.popitem(last=False)
            self._characters_kept -= dropped


def _characters_of(edition: Edition) -> int:
    return _CHARACTERS_PER_QUESTION + sum(
        _CHARACTERS_PER_QUESTION
        + len(question.prompt)
        + sum(map(len, question.choices))
        + sum(map(len, question.accepted))
        for question in edition.questions
    )


_WANTED_REVISIONS = """
      FROM json_to_recordset($1) AS wanted (test_id text, revision integer)
      JOIN test_revisions USING (test_id, revision)
"""

_REVISIONS = f"SELECT test_id, revision, {DEFINITION_COLUMNS} {_WANTED_REVISIONS}"

# One index probe for each question.
_QUESTIONS = f"""
    WITH revisions AS (SELECT test_id, revision, question_ids {_WANTED_REVISIONS})
    SELECT revisions.test_id, revisions.revision, {QUESTION_COLUMNS}
      FROM revisions
     CROSS JOIN LATERAL unnest(revisions.question_ids) WITH ORDINALITY AS asked (id, place)
     CROSS JOIN LATERAL (
           SELECT {QUESTION_COLUMNS}
             FROM questions
            WHERE questions.test_id = revisions.test_id AND questions.question_id = asked.id
              AND {HOLDS_FOR_REVISION}
            LIMIT 1
           ) AS version
     ORDER BY revisions.test_id, revisions.revision, asked.place
"""


async def _load(connection: Connection, keys: Iterable[EditionKey]) -> dict[EditionKey, Edition]:
    wanted = as_rows([key._asdict() for key in keys])
    revisions = await connection.fetch(_REVISIONS, wanted)
    questions: dict[EditionKey, list[Question]] = {}
    for row in await connection.fetch(_QUESTIONS, wanted):
        questions.setdefault(EditionKey(row["test_id"], row["revision"]), []).append(question_from(row))
    definitions = {EditionKey(row["test_id"], row["revision"]): definition_from(row) for row in revisions}
    return {
        key: Edition(
            test_id=key.test_id,
            revision=key.revision,
            definition=definition,
            questions=tuple(questions.get(key, ())),
        )
        for key, definition in definitions.items()
    }
