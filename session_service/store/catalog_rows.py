"""The columns of the catalog's tables, spelled once, and what their rows mean."""

from __future__ import annotations

import asyncpg

from chassis.postgres.rows import from_row, names
from session_service.domain.tests import Definition, Kind, Question

DEFINITION = """
    title text, kind text, difficulty text, question_count integer, time_limit_seconds integer,
    max_attempts integer, credit_cost integer, counts_toward_daily_limit boolean, pass_score double precision,
    specialization text, xp integer, min_engaged_seconds integer, identity_checks integer
"""
DEFINITION_COLUMNS = names(DEFINITION)
QUESTION = "question_id text, prompt text, choices text[], accepted text[], difficulty text, subject text"
QUESTION_COLUMNS = names(QUESTION)

HOLDS_FOR_REVISION = """
    questions.since_revision <= revisions.revision
    AND (questions.until_revision IS NULL OR questions.until_revision > revisions.revision)
"""
"""Whether a row of `questions` is the version that holds for a revision, which is named `revisions`."""


def definition_from(row: asyncpg.Record) -> Definition:
    """A definition from a row that has DEFINITION_COLUMNS."""
    return from_row(Definition, row, kind=Kind(row["kind"]))


def question_from(row: asyncpg.Record) -> Question:
    """A question from a row that has QUESTION_COLUMNS."""
    return from_row(Question, row, choices=tuple(row["choices"]), accepted=tuple(row["accepted"]))
