"""Which systems there are, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load.identity import Identity
from bench.results import SUBJECT
from bench.systems.homeroom_stack import HomeroomStack
from bench.systems.peer import BarePostgres, HttpPeer, PeerDatabase
from bench.systems.system import DatabaseAddress, System
from homeroom.supervisor import Stack

UVICORN = [
    "uvicorn", "bench.peers.fastapi_sqlalchemy.app:app", "--host", "127.0.0.1", "--port", "{port}",
    "--workers", "2", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ground:
    """What all systems share."""

    address: DatabaseAddress
    directory: Path
    identity: Identity
    learners: list[str]
    stack: Stack | None


def _subject(ground: Ground) -> System:
    if ground.stack is None:
        raise RuntimeError("Homeroom needs a stack to be measured in")
    return HomeroomStack(stack=ground.stack, identity=ground.identity, learners=ground.learners)


def _http_peer(name: str, title: str, command: list[str]) -> Callable[[Ground], System]:
    return lambda ground: HttpPeer(
        name=name,
        title=title,
        command=command,
        database=_database(ground, name),
        jwks=ground.identity.jwks,
        directory=ground.directory,
    )


def _database(ground: Ground, name: str) -> PeerDatabase:
    return PeerDatabase(name, address=ground.address, learners=ground.learners)


SYSTEMS: dict[str, Callable[[Ground], System]] = {
    SUBJECT: _subject,
    "fastapi": _http_peer("fastapi", "FastAPI + SQLAlchemy, 2 workers", UVICORN),
    "aiohttp": _http_peer(
        "aiohttp", "aiohttp + asyncpg, one statement", ["bench.peers.aiohttp_asyncpg", "one_statement"]
    ),
    "aiohttp-steps": _http_peer(
        "aiohttp-steps", "aiohttp + asyncpg, one transaction", ["bench.peers.aiohttp_asyncpg", "steps"]
    ),
    "pgbench": lambda ground: BarePostgres(database=_database(ground, "pgbench")),
}


def make_systems(names: Sequence[str], ground: Ground) -> list[System]:
    return [SYSTEMS[name](ground) for name in names]
