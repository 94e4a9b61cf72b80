"""The columns of the catalog's tables, spelled once, and what their rows mean."""

from __future__ import annotations

import asyncpg

from session_service.domain.tests import Definition, Kind, Question

DEFINITION_COLUMNS = """
    title, kind, difficulty, question_count, time_limit_seconds, max_attempts, credit_cost,
    counts_toward_daily_limit, pass_score, specialization, xp, min_engaged_seconds, identity_checks
"""
"""The columns of `test_revisions` that are the fields of `Definition`."""

QUESTION_COLUMNS = "question_id, prompt, choices, accepted, difficulty, subject"
"""The columns of `questions` that are the fields of `Question`."""

HOLDS_FOR_REVISION = """
    questions.since_revision <= revisions.revision
    AND (questions.until_revision IS NULL OR questions.until_revision > revisions.revision)
"""
"""Whether a row of `questions` is the version that holds for a revision, which is named `revisions`."""


def definition_from(row: asyncpg.Record) -> Definition:
    """A definition from a row that has DEFINITION_COLUMNS."""
    return Definition(
        title=row["title"],
        kind=Kind(row["kind"]),
        difficulty=row["difficulty"],
        question_count=row["question_count"],
        time_limit_seconds=row["time_limit_seconds"],
        max_attempts=row["max_attempts"],
        credit_cost=row["credit_cost"],
        counts_toward_daily_limit=row["counts_toward_daily_limit"],
        pass_score=row["pass_score"],
        specialization=row["specialization"],
        xp=row["xp"],
        min_engaged_seconds=row["min_engaged_seconds"],
        identity_checks=row["identity_checks"],
    )


def question_from(row: asyncpg.Record) -> Question:
    """A question from a row that has QUESTION_COLUMNS."""
    return Question(
        question_id=row["question_id"],
        prompt=row["prompt"],
        choices=tuple(row["choices"]),
        accepted=tuple(row["accepted"]),
        difficulty=row["difficulty"],
        subject=row["subject"],
    )
