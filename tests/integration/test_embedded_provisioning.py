"""Each service has its database and two roles, with no more rights than they need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from homeroom.embedded.postgres import Cluster
from homeroom.embedded.provisioning import ServiceDatabase, provision
from homeroom.secrets_file import SecretsFile


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def secrets(tmp_path: Path) -> SecretsFile:
    return SecretsFile(tmp_path / "secrets.json")


@pytest.fixture
async def library(postgres: Cluster, secrets: SecretsFile) -> AsyncIterator[ServiceDatabase]:
    """A database of a service called library, with one table."""
    database = await provision(postgres, secrets, "library")
    try:
        async with connected(database.owner) as owner:
            await owner.execute("CREATE TABLE books (title text PRIMARY KEY, number serial)")
        yield database
    finally:
        async with connected(postgres.dsn("postgres")) as superuser:
            await superuser.execute("DROP DATABASE library WITH (FORCE)")
            await superuser.execute("DROP ROLE library_service; DROP ROLE library_owner")


async def test_the_service_reads_and_writes_rows_of_tables_made_later(library: ServiceDatabase) -> None:
    async with connected(library.service) as service:
        await service.execute("INSERT INTO books (title) VALUES ('Middlemarch')")
        await service.execute("UPDATE books SET title = 'Silas Marner'")
        rows = await service.fetch("SELECT title, number FROM books")
        assert [tuple(row) for row in rows] == [("Silas Marner", 1)]
        await service.execute("DELETE FROM books")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE shelves (id int)",
        "DROP TABLE books",
        "ALTER TABLE books ADD COLUMN author text",
        "TRUNCATE books",
        "CREATE SCHEMA cellar",
        "CREATE DATABASE branch",
        "CREATE ROLE reader",
        "CREATE TEMPORARY TABLE pile (id int)",
    ],
)
async def test_the_service_may_do_nothing_else(library: ServiceDatabase, statement: str) -> None:
    async with connected(library.service) as service:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute(statement)


async def test_another_services_role_may_not_even_connect(
    library: ServiceDatabase, empty_database: ServiceDatabase
) -> None:
    path = library.service.partition("@")[2]
    credentials = empty_database.service.partition("@")[0]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(f"{credentials}@{path}")


async def test_provisioning_again_changes_nothing(
    postgres: Cluster, secrets: SecretsFile, library: ServiceDatabase
) -> None:
    async with connected(library.service) as service:
        await service.execute("INSERT INTO books (title) VALUES ('Emma')")
    assert await provision(postgres, secrets, "library") == library
    async with connected(library.service) as service:
        assert await service.fetchval("SELECT title FROM books") == "Emma"


async def test_lost_passwords_of_roles_are_set_anew(
    postgres: Cluster, library: ServiceDatabase, tmp_path: Path
) -> None:
    again = await provision(postgres, SecretsFile(tmp_path / "other.json"), "library")
    assert again.service != library.service
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(library.service)
    async with connected(again.service) as service:
        assert await service.fetchval("SELECT count(*) FROM books") == 0
