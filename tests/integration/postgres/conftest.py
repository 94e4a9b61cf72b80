"""A database with a table of notes, reached directly or through a proxy that loses things."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chassis.postgres import (
    Connection,
    Database,
)
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.notes import TABLES, opened
from tests.support.postgres_proxy import PostgresProxy


@pytest.fixture
async def admin(empty_database: ServiceDatabase) -> AsyncIterator[Connection]:
    """A connection beside the pool, for looking at the truth and for doing harm."""
    connection = await asyncpg.connect(empty_database.superuser)
    await connection.execute(TABLES)
    await connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")
    yield connection
    await connection.close()


@pytest.fixture
async def database(empty_database: ServiceDatabase, admin: Connection) -> AsyncIterator[Database]:
    async with opened(empty_database.service, minimum=1, maximum=4) as database:
        yield database


@pytest.fixture
async def proxy(empty_database: ServiceDatabase, admin: Connection) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(empty_database.service).running() as proxy:
        yield proxy


@pytest.fixture
async def proxied(proxy: PostgresProxy) -> AsyncIterator[Database]:
    async with opened(proxy.dsn, minimum=1, maximum=4) as database:
        yield database
