"""The bench's one PostgreSQL, and Homeroom's stack on it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load.identity import AUDIENCE, ISSUER, Identity
from bench.systems.system import DatabaseAddress
from homeroom.data_directory import DataDirectory
from homeroom.embedded.postgres import SETTINGS, Cluster
from homeroom.supervisor import Stack

POSTGRES_CONNECTIONS_MAX = 500
"""Room for pgbench with 256 clients beside everyone's pools."""


@dataclass(frozen=True, slots=True)
class Server:
    """The bench's one PostgreSQL, and the stack that started it, if there is one."""

    address: DatabaseAddress
    postmaster: int
    stack: Stack | None


@asynccontextmanager
async def running_server(
    data: Path, identity: Identity, *, with_stack: bool, env: Mapping[str, str] | None = None
) -> AsyncIterator[Server]:
    """A fresh PostgreSQL with the settings of `homeroom up`, on the disk of the checkout; gone afterwards.

    `env` are further settings of the stack's processes.
    """
    _clear(data)
    settings = {**SETTINGS, "max_connections": str(POSTGRES_CONNECTIONS_MAX)}
    if with_stack:
        additions = {
            **(env or {}),
            "HOMEROOM_JWKS": str(identity.jwks),
            "HOMEROOM_JWT_ISSUER": ISSUER,
            "HOMEROOM_JWT_AUDIENCE": AUDIENCE,
        }
        async with Stack(data / "stack", env=additions, postgres_settings=settings) as stack:
            yield Server(stack.dsn, _postmaster(stack.pid("postgres")), stack)
            _refuse_internal_errors(await stack.internal_errors())
    else:
        async with _cluster(DataDirectory(data / "stack"), settings) as cluster:
            yield Server(cluster.dsn, _postmaster(cluster.pid), None)
    shutil.rmtree(data)


@asynccontextmanager
async def _cluster(directory: DataDirectory, settings: Mapping[str, str]) -> AsyncIterator[Cluster]:
    """The PostgreSQL that a stack would start, for a bench of peers alone."""
    with directory.held():
        cluster = Cluster(
            directory.postgres,
            password=directory.secrets().get("postgres"),
            run=directory.run,
            log=directory.log("postgres"),
            settings=settings,
        )
        await cluster.start()
        try:
            yield cluster
        finally:
            await cluster.stop()


def _refuse_internal_errors(errors: Mapping[str, int]) -> None:
    if any(errors.values()):
        raise RuntimeError(f"processes have answered with a 500, which is a bug: {dict(errors)}")


def _postmaster(pid: int | None) -> int:
    if pid is None:
        raise RuntimeError("PostgreSQL died as soon as it had started")
    return pid


def _clear(data: Path) -> None:
    """Removes what an earlier bench left; raises AlreadyRunningError while another one runs."""
    if data.exists():
        with DataDirectory(data / "stack").held():
            shutil.rmtree(data)
    (data / "peers").mkdir(parents=True)
