"""A migration that takes something away says which programs can serve after it."""

from __future__ import annotations

import re

import pytest

from chassis.postgres.migrations import FOLDER, Migration, load
from tests.house.sources import ROOT, SERVICES, told

# The files from before there was a `needs`.
BEFORE = {"chassis": 6, "session_service": 21, "subscription_service": 14, "progress_service": 15}
COMMENT = re.compile(r"--[^\n]*")
TAKES_AWAY = re.compile(
    r"\bDROP\s+(TABLE|TYPE|COLUMN|VIEW|FUNCTION)\b|\bRENAME\b|\bALTER\s+TABLE\s+\S+\s+DROP\s+(?!CONSTRAINT)",
    re.IGNORECASE,
)


def takes_away(sql: str) -> bool:
    return TAKES_AWAY.search(COMMENT.sub("", sql)) is not None


def test_a_migration_that_takes_something_away_begins_with_what_it_needs() -> None:
    folders = {"chassis": FOLDER} | {service: ROOT / service / "migrations" for service in SERVICES}
    faults = [
        f"{migration}: begin it with `-- needs: NNN`, the migration of the first program that can do without"
        for migration in load(folders)
        if is_new(migration) and takes_away(migration.sql) and not migration.needs
    ]
    assert not faults, told(faults)


def is_new(migration: Migration) -> bool:
    return migration.version > BEFORE[migration.component]


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("ALTER TABLE notes DROP COLUMN body;", True),
        ("ALTER TABLE notes\n  DROP body;", True),
        ("DROP TABLE notes;", True),
        ("ALTER TABLE notes RENAME COLUMN body TO text;", True),
        ("DROP TYPE row_of_notes;", True),
        ("ALTER TABLE notes DROP CONSTRAINT notes_short;", False),
        ("DROP INDEX notes_in_order;", False),
        ("-- DROP TABLE notes\nALTER TABLE notes ADD body text;", False),
    ],
)
def test_the_check_finds_what_takes_something_away(sql: str, found: bool) -> None:
    assert takes_away(sql) is found
