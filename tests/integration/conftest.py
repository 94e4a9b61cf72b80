"""A database with the chassis' own tables, and a superuser's view of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chassis.postgres import Connection, Database
from chassis.postgres.migrations import FOLDER, migrate
from homeroom.embedded.provisioning import ServiceDatabase


@pytest.fixture
async def database(empty_database: ServiceDatabase) -> AsyncIterator[Database]:
    await migrate(empty_database.owner, {"chassis": FOLDER})
    database = await Database.connect(empty_database.service, maximum=8)
    yield database
    await database.close()


@pytest.fixture
async def admin(empty_database: ServiceDatabase, database: Database) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_database.superuser)
    yield connection
    await connection.close()
