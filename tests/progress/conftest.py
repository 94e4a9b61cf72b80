"""One progress database per test, and the operations on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import asyncpg
import pytest

from chassis.batch import Item
from chassis.context import service_context
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database, relay
from chassis.telemetry.metrics import Metrics
from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.domain.statistics import Recording, SessionResult, UserId
from progress_service.operations import license_following
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import LearnerStats, StatisticsOperations
from progress_service.store.results import ResultStore
from progress_service.store.statistics import StatisticsStore
from tests.progress.diagnostics import Discrepancy, read_discrepancies
from tests.progress.licenses import Licenses
from tests.subscription.service import Subscriptions

R = TypeVar("R")


def asked(request: R, *, seconds: float = 10.0) -> Item[R]:
    """An item of a batch, as the servicer hands it to an operation."""
    return Item(service_context("/test", timeout_seconds=seconds), request)


@dataclass
class Progress:
    """The service without its gRPC, and a superuser's view of its tables."""

    results: ResultOperations
    statistics: StatisticsOperations
    metrics: Metrics
    database: Database
    truth: Connection

    async def tell(self, *results: SessionResult) -> list[Recording | ServiceError]:
        return await self.results.record_session_results([asked(result) for result in results])

    async def deliver(self, *results: SessionResult) -> list[Recording]:
        """Tell these results as a relay does: what could not be recorded now is told again."""
        outcomes = await self.tell(*results)
        while refused := [
            place for place, outcome in enumerate(outcomes) if isinstance(outcome, ServiceError)
        ]:
            assert all(outcomes[place].reason.retryable for place in refused), outcomes
            again = await self.tell(*(results[place] for place in refused))
            for place, outcome in zip(refused, again, strict=True):
                outcomes[place] = outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Recording)]

    async def stats(self, user_id: str, *, today: date | None = None) -> LearnerStats:
        (stats,) = await self.statistics.get_stats([asked(UserId(user_id))], today=today)
        return stats

    async def discrepancies(self) -> list[Discrepancy]:
        return await read_discrepancies(self.truth)

    async def rows(self, table: str, user_ids: Sequence[str]) -> list[dict[str, Any]]:
        rows = await self.truth.fetch(
            f"SELECT * FROM {table} WHERE user_id = ANY($1::text[]) ORDER BY 1, 2",  # noqa: S608 — a test's own name
            list(user_ids),
        )
        return [dict(row) for row in rows]


def progress_over(database: Database, truth: Connection) -> Progress:
    metrics = Metrics(service="progress_service")
    return Progress(
        results=ResultOperations(store=ResultStore(database), wake_relay=lambda: None, metrics=metrics),
        statistics=StatisticsOperations(store=StatisticsStore(database)),
        metrics=metrics,
        database=database,
        truth=truth,
    )


@pytest.fixture
async def truth(progress_database: ServiceDatabase) -> AsyncIterator[Connection]:
    """A connection beside the pool, for looking at the truth and for doing harm."""
    connection = await asyncpg.connect(progress_database.superuser)
    yield connection
    await connection.close()


@pytest.fixture
async def progress(progress_database: ServiceDatabase, truth: Connection) -> AsyncIterator[Progress]:
    database = await Database.connect(progress_database.service, maximum=8)
    yield progress_over(database, truth)
    await database.close()


@pytest.fixture
async def licenses(
    subscription_database: ServiceDatabase, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Licenses]:
    # Five minutes of a neighbour's absence, compressed into a second.
    monkeypatch.setattr(relay, "BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(relay, "BACKOFF_SECONDS_MAX", 0.2)
    monkeypatch.setattr(relay, "PAUSE_SECONDS_MAX", 0.05)
    monkeypatch.setattr(license_following, "AGAIN_SECONDS", 0.05)
    truth = await asyncpg.connect(subscription_database.superuser)
    database = await Database.connect(subscription_database.service, maximum=8)
    licenses = Licenses(Subscriptions(database, truth))
    await licenses.open()
    yield licenses
    await licenses.close()
    await database.close()
    await truth.close()
