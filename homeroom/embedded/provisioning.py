"""One database per service with two roles: the owner migrates, the service reads and writes rows."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from homeroom.embedded.postgres import Cluster
from homeroom.secrets_file import SecretsFile


@dataclass(frozen=True, slots=True)
class ServiceDatabase:
    """The addresses of one service's database: for the service, for its migrations, for the superuser."""

    service: str
    owner: str
    superuser: str


async def provision(cluster: Cluster, secrets: SecretsFile, service: str) -> ServiceDatabase:
    """Make the roles and the database of the service if they are missing, and set exactly their rights."""
    connection = await asyncpg.connect(cluster.dsn("postgres"))
    try:
        await ensure_roles(connection, secrets, service)
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", service):
            await connection.execute(f'CREATE DATABASE "{service}" OWNER "{service}_owner"')
        await grant_database(connection, database=service, service=service)
    finally:
        await connection.close()
    await grant_schema(cluster.dsn(service), service)
    return service_database(cluster, secrets, database=service, service=service)


def service_database(
    cluster: Cluster, secrets: SecretsFile, *, database: str, service: str
) -> ServiceDatabase:
    """The addresses of a database that belongs to the service's roles."""

    def address(role: str) -> str:
        return cluster.dsn(database, user=role, password=secrets.get(role))

    return ServiceDatabase(
        service=address(f"{service}_service"),
        owner=address(f"{service}_owner"),
        superuser=cluster.dsn(database),
    )


async def ensure_roles(connection: asyncpg.Connection, secrets: SecretsFile, service: str) -> None:
    """Make the two roles, which may log in with the stored passwords and have no other right."""
    for role in (f"{service}_owner", f"{service}_service"):
        exists = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
        verb = "ALTER" if exists else "CREATE"
        statement = await connection.fetchval(  # DDL takes no parameters: the server quotes them for us
            "SELECT format('%s ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD %L',"
            " $1::text, $2::text, $3::text)",
            verb,
            role,
            secrets.get(role),
        )
        await connection.execute(statement)


async def grant_database(connection: asyncpg.Connection, *, database: str, service: str) -> None:
    """Allow only the service's two roles to connect."""
    await connection.execute(f"""
        REVOKE ALL ON DATABASE "{database}" FROM PUBLIC;
        GRANT CONNECT ON DATABASE "{database}" TO "{service}_service";
    """)


async def grant_schema(superuser_dsn: str, service: str) -> None:
    """Allow the service to read and write the rows of all tables that the owner makes, now and later."""
    connection = await asyncpg.connect(superuser_dsn)
    try:
        await connection.execute(f"""
            REVOKE ALL ON SCHEMA public FROM PUBLIC;
            GRANT USAGE ON SCHEMA public TO "{service}_service";
            ALTER DEFAULT PRIVILEGES FOR ROLE "{service}_owner" IN SCHEMA public
                GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{service}_service";
            ALTER DEFAULT PRIVILEGES FOR ROLE "{service}_owner" IN SCHEMA public
                GRANT USAGE, SELECT ON SEQUENCES TO "{service}_service";
        """)
    finally:
        await connection.close()
