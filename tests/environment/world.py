"""A healthy process of each kind, as its configuration describes it, to plant a fault in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg

import gateway.config
import gateway.environment
import progress_service.config
import session_service.config
import session_service.store.environment
import subscription_service.config
import subscription_service.store.environment
from chassis.diagnostics.environment import (
    ENVIRONMENT_CHECKS,
    Environment,
    EnvironmentCheck,
    Limits,
    run_environment,
)
from chassis.diagnostics.findings import Finding, Severity
from chassis.process.diagnose import environment_of
from homeroom.embedded.postgres import Cluster
from homeroom.embedded.provisioning import ServiceDatabase
from homeroom.embedded.redis import Redis
from homeroom.schema import migration_folders
from tests.support.databases import Databases
from tests.support.service_process import TOKEN

# A starved machine is no finding, and its own checks are not what is tested.
PATIENT = Limits(
    open_seconds_max=20.0, check_seconds_max=20.0, round_trip_ms_medium=1000.0, redis_ms_low=1000.0
)
CONFIGS: dict[str, Any] = {
    "session_service": session_service.config.Config,
    "subscription_service": subscription_service.config.Config,
    "progress_service": progress_service.config.Config,
    "gateway": gateway.config.Config,
}
OWN_CHECKS: dict[str, Sequence[EnvironmentCheck]] = {
    "session_service": session_service.store.environment.ENVIRONMENT_CHECKS,
    "subscription_service": subscription_service.store.environment.ENVIRONMENT_CHECKS,
    "progress_service": (),
    "gateway": gateway.environment.ENVIRONMENT_CHECKS,
}
SEEDS = {
    "session_service": ["INSERT INTO tests (test_id, revision) VALUES ('physics-01', 1)"],
    "subscription_service": [
        """
        INSERT INTO accounts (user_id, email, display_name, email_verified, status)
        VALUES ('ada', 'ada@example.org', 'Ada', true, 'active')
        """
    ],
    "progress_service": [],
}


@dataclass(frozen=True)
class Ground:
    """What the processes of a test stand on."""

    folder: Path
    cluster: Cluster
    port: int
    databases: Databases
    redis: Redis | None
    jwks: Path
    shared: dict[str, ServiceDatabase] = field(default_factory=dict)
    """Databases that nobody harms, by process; they exist as long as `until_end`."""
    until_end: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def sound_database(self, process: str) -> ServiceDatabase:
        """A database for a test that does no harm to it."""
        if process not in self.shared:
            fresh = self.databases.fresh(process.removesuffix("_service"))
            database = await self.until_end.enter_async_context(fresh)
            await run(database.service, *SEEDS[process])
            self.shared[process] = database
        return self.shared[process]


@dataclass
class World:
    """One process, healthy until somebody changes `environ`, `limits` or what is around it."""

    process: str
    environ: dict[str, str]
    ground: Ground
    database: ServiceDatabase | None
    listener: str
    """An address at which something listens."""
    limits: Limits = PATIENT
    cleanup: list[Any] = field(default_factory=list)

    @property
    def checks(self) -> tuple[EnvironmentCheck, ...]:
        return (*ENVIRONMENT_CHECKS, *OWN_CHECKS[self.process])

    @property
    def environment(self) -> Environment:
        migrations = migration_folders(self.process) if self.database else {}
        return environment_of(
            self.process, CONFIGS[self.process], self.environ, migrations=migrations, limits=self.limits
        )

    async def look(self) -> list[Finding]:
        """What the checks find, facts included."""
        return await run_environment(self.environment, self.checks)

    async def faults(self) -> list[Finding]:
        """What is wrong."""
        return [each for each in await self.look() if each.severity > Severity.INFO]

    async def as_superuser(self, *statements: str) -> None:
        assert self.database is not None
        await run(self.database.superuser, *statements)

    async def as_owner(self, *statements: str) -> None:
        assert self.database is not None
        await run(self.database.owner, *statements)

    async def as_service(self, *statements: str) -> None:
        assert self.database is not None
        await run(self.database.service, *statements)

    def limit(self, **changed: float) -> None:
        self.limits = replace(self.limits, **changed)

    def at_end(self, act: Any) -> None:
        """Await this when the test is over, the last one first."""
        self.cleanup.append(act)


async def run(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def healthy(ground: Ground, process: str, *, harmed: bool = True) -> AsyncIterator[World]:
    """A process with nothing wrong around it; unless its database is harmed, it is shared."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    others = [await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) for _ in range(2)]
    listeners = [f"127.0.0.1:{each.sockets[0].getsockname()[1]}" for each in (server, *others)]
    targets = ("SUBSCRIPTION", "PROGRESS", "SESSION")
    environ = {
        "HOMEROOM_BIND": "127.0.0.1:0",
        "HOMEROOM_OPS_BIND": "127.0.0.1:0",
        "HOMEROOM_SERVICE_TOKEN": TOKEN,
        "HOMEROOM_DATABASE_FOLDER": str(ground.folder),
        **{f"HOMEROOM_{name}_TARGET": each for name, each in zip(targets, listeners, strict=True)},
        "HOMEROOM_JWKS": str(ground.jwks),
        "HOMEROOM_JWT_ISSUER": "https://issuer.example",
        "HOMEROOM_JWT_AUDIENCE": "homeroom",
        "HOMEROOM_REDIS_URL": ground.redis.url if ground.redis else "",
    }
    try:
        if process == "gateway":
            world = World(process, environ, ground, None, listeners[0])
            async with _ending(world):
                yield world
        elif not harmed:
            database = await ground.sound_database(process)
            environ["HOMEROOM_DATABASE_URL"] = database.service
            world = World(process, environ, ground, database, listeners[0])
            async with _ending(world):
                yield world
        else:
            async with ground.databases.fresh(process.removesuffix("_service")) as database:
                environ["HOMEROOM_DATABASE_URL"] = database.service
                world = World(process, environ, ground, database, listeners[0])
                await world.as_service(*SEEDS[process])
                async with _ending(world):
                    yield world
    finally:
        for each in (server, *others):
            each.close()


@asynccontextmanager
async def _ending(world: World) -> AsyncIterator[None]:
    try:
        yield
    finally:
        while world.cleanup:
            await world.cleanup.pop()()
