"""Editions of tests, read once and kept: what a revision asks never changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import asyncpg

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


def edition_key(row: asyncpg.Record) -> EditionKey:
    """The edition that a row names with its columns `test_id` and `revision`."""
    return EditionKey(row["test_id"], row["revision"])


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
        for question in edition.pool
    )


_WANTED_REVISIONS = """
      FROM json_to_recordset($1) AS wanted (test_id text, revision integer)
      JOIN test_revisions USING (test_id, revision)
"""

_REVISIONS = f"SELECT test_id, revision, question_ids, {DEFINITION_COLUMNS} {_WANTED_REVISIONS}"

_QUESTIONS = f"""
    WITH revisions AS (SELECT test_id, revision {_WANTED_REVISIONS})
    SELECT revisions.revision, test_id, {QUESTION_COLUMNS}
      FROM revisions
      JOIN questions USING (test_id)
     WHERE {HOLDS_FOR_REVISION}
     ORDER BY test_id, revisions.revision, position
"""


async def _load(connection: Connection, keys: Iterable[EditionKey]) -> dict[EditionKey, Edition]:
    wanted = as_rows([key._asdict() for key in keys])
    revisions = await connection.fetch(_REVISIONS, wanted)
    pools: dict[EditionKey, dict[str, Question]] = {}
    for row in await connection.fetch(_QUESTIONS, wanted):
        key = edition_key(row)
        pools.setdefault(key, {})[row["question_id"]] = question_from(row)
    return {(key := edition_key(row)): _edition(key, row, pools.get(key, {})) for row in revisions}


def _edition(key: EditionKey, revision: asyncpg.Record, pool: dict[str, Question]) -> Edition:
    questions = tuple(pool.pop(question_id) for question_id in revision["question_ids"])
    return Edition(key.test_id, key.revision, definition_from(revision), questions, rest=tuple(pool.values()))
