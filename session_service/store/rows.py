"""Rows become domain objects at once."""

from __future__ import annotations

import asyncpg

from session_service.domain.tests import Definition, Kind, Question


def definition_from(row: asyncpg.Record) -> Definition:
    """A definition from a row that has the defining columns of `test_revisions`."""
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
    """A question from a row of `questions`."""
    return Question(
        question_id=row["question_id"],
        prompt=row["prompt"],
        choices=tuple(row["choices"]),
        accepted=tuple(row["accepted"]),
        difficulty=row["difficulty"],
        subject=row["subject"],
    )
