"""Homeroom itself: the stack that `homeroom up` runs, with authentication, validation and sampling on."""

from __future__ import annotations

from collections.abc import Mapping

from bench.load.identity import Identity
from bench.load.outcome import LoadOutcome
from bench.load.requests import TEST_IDS, RequestFile
from bench.load.wrk import run_wrk
from bench.systems import tables
from homeroom.api import Api
from homeroom.services import SERVICES
from homeroom.supervisor import Stack

NAME = "gateway"
DATABASES = ("session", "subscription", "progress")
TEMPLATE = "learner-template"
COUNTS = {
    "session": {
        "sessions": "SELECT count(*) FROM sessions",
        "idempotency keys": "SELECT count(*) FROM idempotency_keys",
    },
    "subscription": {
        "holds": "SELECT count(*) FROM holds",
        "units of quota": "SELECT sum(held + used) FROM daily_usage",
    },
}


class HomeroomStack:
    """The four processes of a running stack; `start` only fills its databases."""

    name = NAME
    title = "Homeroom, four processes"
    databases = DATABASES

    def __init__(self, *, stack: Stack, identity: Identity, learners: list[str]) -> None:
        self._stack = stack
        self._identity = identity
        self._learners = learners
        self._written: dict[str, list[str]] = {}

    @property
    def url(self) -> str:
        return self._stack.gateway_url

    def processes(self) -> Mapping[str, int]:
        found = {name: self._stack.pid(name) for name in self._names()}
        return {name: pid for name, pid in found.items() if pid is not None}

    async def start(self) -> None:
        """Create tests and one account through the API, as an admin; copy its rows for all other accounts."""
        async with Api(self.url, self._identity.token("bench-admin", "admin")) as api:
            for test_id in TEST_IDS:
                await api.want("PUT", f"/v1/tests/{test_id}", _test(test_id))
            await api.want("PUT", f"/v1/accounts/{TEMPLATE}", _account(TEMPLATE))
        for database in DATABASES:
            await tables.clone_rows(self._stack.dsn(database), TEMPLATE, self._learners)
            await tables.settle(self._stack.dsn(database))
            self._written[database] = await tables.empty_tables(self._stack.dsn(database))

    async def stop(self) -> None:
        """The caller that started the stack stops it."""

    async def load(self, requests: RequestFile, *, connections: int, seconds: int) -> LoadOutcome:
        """Raises RuntimeError if a process died meanwhile: the figures would mean nothing."""
        before = self._restarts()
        outcome = await run_wrk(f"{self.url}/v1/sessions", requests, connections=connections, seconds=seconds)
        if self._restarts() != before:
            raise RuntimeError(f"a process died under load: see {self._stack.data_dir / 'logs'}")
        return outcome

    async def counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for database, queries in COUNTS.items():
            counts |= await tables.count(self._stack.dsn(database), queries)
        return counts

    async def reset(self) -> None:
        for database, written in self._written.items():
            await tables.truncate(self._stack.dsn(database), written)

    def _names(self) -> list[str]:
        names = [service.package for service in SERVICES]
        return names if self._stack.redis_url is None else [*names, "redis"]

    def _restarts(self) -> list[int]:
        return [self._stack.restarts(name) for name in self._names()]


def _test(test_id: str) -> dict[str, object]:
    return {
        "title": test_id.capitalize().replace("-", " "),
        "kind": "PRACTICE",
        "difficulty": "medium",
        "questionCount": 0,
        "creditCost": 0,
        "countsTowardDailyLimit": True,
    }


def _account(user_id: str) -> dict[str, object]:
    return {
        "email": f"{user_id}@bench.example",
        "displayName": user_id,
        "emailVerified": True,
        "status": "ACTIVE",
    }
