"""A database with purses, and the tables of plans."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chassis.postgres import Connection, Database
from chassis.postgres.migrations import FOLDER, migrate
from homeroom.embedded.provisioning import ServiceDatabase
from tests.diagnostics.purses import TABLES
from tests.support.notes import opened


@pytest.fixture
async def admin(empty_database: ServiceDatabase) -> AsyncIterator[Connection]:
    """A connection beside the service's own, for planting and for looking at the truth."""
    await migrate(empty_database.owner, {"chassis": FOLDER})
    connection = await asyncpg.connect(empty_database.superuser)
    await connection.execute(TABLES)
    yield connection
    await connection.close()


@pytest.fixture
async def database(empty_database: ServiceDatabase, admin: Connection) -> AsyncIterator[Database]:
    async with opened(empty_database.service, minimum=1, maximum=6) as database:
        yield database
