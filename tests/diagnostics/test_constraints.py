"""Rows that a constraint must refuse are found, whatever let them in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chassis.diagnostics.checks import Scope
from chassis.diagnostics.constraints import constraint_check
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.walking import CheckWalk
from chassis.postgres import Connection, Database
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.notes import opened

TABLES = """
    CREATE TABLE shelves (shelf integer PRIMARY KEY);
    CREATE TABLE books (
        user_id text NOT NULL,
        "Book" integer NOT NULL,
        title text NOT NULL,
        shelf integer REFERENCES shelves,
        pages integer,
        lent boolean NOT NULL DEFAULT false,
        CONSTRAINT books_once PRIMARY KEY (user_id, "Book"),
        CONSTRAINT books_have_pages CHECK (pages > 0 AND title <> 'it''s')
    );
    CREATE UNIQUE INDEX books_one_title ON books (user_id, lower(title)) WHERE lent;
    INSERT INTO shelves VALUES (1);
    INSERT INTO books SELECT 'ann', n, 'title ' || n, 1, NULLIF(n, 7), true FROM generate_series(1, 40) AS n;
    INSERT INTO books VALUES ('bob', 1, 'title 1', NULL, 5, true), ('bob', 2, 'TITLE 1', NULL, 5, false);
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC
"""


@pytest.fixture
async def admin(empty_database: ServiceDatabase) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_database.superuser)
    await connection.execute(TABLES)
    yield connection
    await connection.close()


@pytest.fixture
async def database(empty_database: ServiceDatabase, admin: Connection) -> AsyncIterator[Database]:
    async with opened(empty_database.service, minimum=1, maximum=2) as database:
        yield database


async def findings(database: Database, *, user_id: str = "") -> list[Finding]:
    """What the check finds; its first step has 500 rows, so these tables are one step each."""
    check = constraint_check(database, "library", {"shelves": (), "books": ()})
    found: list[Finding] = []
    async for each, progress in CheckWalk(check, Scope(user_id)).steps():
        assert not progress.problem
        found += each
    return found


def told(found: list[Finding]) -> list[tuple[str, str, str]]:
    return sorted((each.user_id, each.row["Book"], each.evidence["constraint"]) for each in found)


async def test_legal_rows_are_no_findings(database: Database) -> None:
    assert await findings(database) == []


async def test_a_check_that_was_not_validated_is_verified(database: Database, admin: Connection) -> None:
    await admin.execute(
        """
        ALTER TABLE books DROP CONSTRAINT books_have_pages;
        UPDATE books SET pages = 0 WHERE user_id = 'bob' AND "Book" = 1;
        UPDATE books SET title = 'it''s' WHERE user_id = 'ann' AND "Book" = 9;
        ALTER TABLE books ADD CONSTRAINT books_have_pages CHECK (pages > 0 AND title <> 'it''s') NOT VALID
        """
    )
    found = await findings(database)
    assert told(found) == [("ann", "9", "books_have_pages"), ("bob", "1", "books_have_pages")]
    assert found[0].evidence["definition"].startswith("CHECK (((pages > 0)")
    assert found[0].row["table"] == "books"
    assert told(await findings(database, user_id="bob")) == [("bob", "1", "books_have_pages")]


async def test_a_row_that_breaks_a_rule_of_a_function_is_found_by_the_rule(
    database: Database, admin: Connection
) -> None:
    await admin.execute(
        """
        CREATE FUNCTION refuse_row(broken_rule text) RETURNS boolean
        LANGUAGE plpgsql STRICT AS $$ BEGIN RAISE check_violation; END $$;
        CREATE FUNCTION books_broken_rule_1(pages integer, title text) RETURNS text
        LANGUAGE plpgsql AS $$
        BEGIN
            RETURN CASE
                WHEN NOT (pages > 0) THEN 'books_have_pages'
                WHEN NOT (
                    title <> 'it''s'
                    AND title <> ''
                ) THEN 'books_have_titles'
            END;
        END
        $$;
        ALTER TABLE books DROP CONSTRAINT books_have_pages;
        UPDATE books SET pages = 0 WHERE user_id = 'bob' AND "Book" = 1;
        UPDATE books SET title = 'it''s' WHERE user_id = 'ann' AND "Book" = 9;
        ALTER TABLE books
            ADD CONSTRAINT books_rules_1 CHECK (refuse_row(books_broken_rule_1(pages, title))) NOT VALID
        """
    )
    found = await findings(database)
    assert told(found) == [("ann", "9", "books_have_titles"), ("bob", "1", "books_have_pages")]
    assert {each.evidence["definition"] for each in found} == {
        "CHECK (pages > 0)",
        "CHECK (title <> 'it''s' AND title <> '')",
    }


async def test_rows_with_one_key_are_found(database: Database, admin: Connection) -> None:
    await admin.execute(
        """
        UPDATE pg_index SET indisunique = false, indisprimary = false
         WHERE indexrelid = 'books_once'::regclass;
        UPDATE books SET "Book" = 2 WHERE user_id = 'ann' AND "Book" = 3;
        UPDATE pg_index SET indisunique = true, indisprimary = true WHERE indexrelid = 'books_once'::regclass
        """
    )
    assert told(await findings(database)) == [("ann", "2", "books_once")] * 2


async def test_rows_with_one_unique_expression_are_found(database: Database, admin: Connection) -> None:
    await admin.execute(
        """
        UPDATE pg_index SET indisunique = false WHERE indexrelid = 'books_one_title'::regclass;
        UPDATE books SET title = 'Title 2' WHERE user_id = 'ann' AND "Book" = 3;
        UPDATE pg_index SET indisunique = true WHERE indexrelid = 'books_one_title'::regclass
        """
    )
    assert told(await findings(database)) == [
        ("ann", "2", "books_one_title"),
        ("ann", "3", "books_one_title"),
    ]


async def test_a_reference_to_a_missing_row_is_found(database: Database, admin: Connection) -> None:
    async with admin.transaction():
        await admin.execute("SET LOCAL session_replication_role = replica")
        await admin.execute("UPDATE books SET shelf = 5 WHERE user_id = 'bob'")
    assert told(await findings(database)) == [
        ("bob", "1", "books_shelf_fkey"),
        ("bob", "2", "books_shelf_fkey"),
    ]


async def test_many_rows_are_walked_in_steps_each_once(database: Database, admin: Connection) -> None:
    await admin.execute(
        """
        ALTER TABLE books DROP CONSTRAINT books_have_pages;
        INSERT INTO books SELECT 'u' || n % 7, n, 'x' || n, 1, 0, true FROM generate_series(1, 1500) AS n;
        ALTER TABLE books ADD CONSTRAINT books_have_pages CHECK (pages > 0 AND title <> 'it''s') NOT VALID
        """
    )
    found = told(await findings(database))
    assert len(found) == len(set(found)) == 1500


async def test_a_table_that_does_not_exist_ends_the_walk_with_a_problem(database: Database) -> None:
    check = constraint_check(database, "library", {"nowhere": ()})
    problems = [progress.problem async for _, progress in CheckWalk(check, Scope()).steps()]
    assert problems == ["LookupError"]
