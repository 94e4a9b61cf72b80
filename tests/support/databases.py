"""A fresh database per test, cloned from a migrated template of its service."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from chassis.postgres.migrations import migrate
from homeroom.embedded.postgres import SETTINGS, Cluster
from homeroom.embedded.provisioning import (
    ServiceDatabase,
    grant_database,
    provision,
    service_database,
)
from homeroom.schema import migration_folders
from homeroom.secrets_file import SecretsFile

FAST_SETTINGS = {
    **SETTINGS,
    "shared_buffers": "128MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}
"""A test database never has to survive the power switch."""

EMPTY = "empty"
"""A service without any migration, for tests that bring their own tables."""


class Databases:
    """Clones of one migrated template per service in one cluster; the templates are made on first use."""

    def __init__(self, cluster: Cluster, secrets: SecretsFile) -> None:
        self._cluster = cluster
        self._secrets = secrets
        self._templates: dict[str, str] = {}
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def fresh(self, service: str) -> AsyncIterator[ServiceDatabase]:
        """A database of this service that exists for the length of one test."""
        template = self._templates.get(service) or await self._make_template(service)
        name = f"{service}_{next(self._numbers)}"
        connection = await asyncpg.connect(self._cluster.dsn("postgres"))
        try:
            await connection.execute(
                f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER "{service}_owner" STRATEGY file_copy'
            )
            await grant_database(connection, database=name, service=service)
            try:
                yield service_database(self._cluster, self._secrets, database=name, service=service)
            finally:
                await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        finally:
            await connection.close()

    async def _make_template(self, service: str) -> str:
        database = await provision(self._cluster, self._secrets, service)
        if service != EMPTY:
            await migrate(database.owner, migration_folders(f"{service}_service"))
        self._templates[service] = service
        return service
