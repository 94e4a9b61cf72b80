"""One progress database per test, and the operations on it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import asyncpg
import pytest

from chassis.errors import ServiceError
from chassis.telemetry.metrics import Metrics
from chassis.postgres import Connection, Database
from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.domain.statistics import Recording, SessionResult, UserId
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import LearnerStats, StatisticsOperations
from progress_service.store.diagnostics import DiagnosticStore, Discrepancy
from progress_service.store.results import ResultStore
from progress_service.store.statistics import StatisticsStore


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


@dataclass
class Progress:
    """The service without its gRPC, and a superuser's view of its tables."""

    results: ResultOperations
    statistics: StatisticsOperations
    diagnostics: DiagnosticStore
    metrics: Metrics
    truth: Connection

    async def tell(self, *results: SessionResult) -> list[Recording | ServiceError]:
        return await self.results.record_session_results(results, deadline=soon())

    async def stats(self, user_id: str, *, today: date | None = None) -> LearnerStats:
        (stats,) = await self.statistics.get_stats([UserId(user_id)], deadline=soon(), today=today)
        assert isinstance(stats, LearnerStats), stats
        return stats

    async def discrepancies(self) -> list[Discrepancy]:
        return await self.diagnostics.select_discrepancies(deadline=soon())

    async def rows(self, table: str, user_ids: Sequence[str]) -> list[dict[str, Any]]:
        rows = await self.truth.fetch(
            f"SELECT * FROM {table} WHERE user_id = ANY($1::text[]) ORDER BY 1, 2",  # noqa: S608 — a test's own name
            list(user_ids),
        )
        return [dict(row) for row in rows]


def progress_over(database: Database, truth: Connection) -> Progress:
    metrics = Metrics(service="progress_service")
    return Progress(
        results=ResultOperations(store=ResultStore(database), metrics=metrics),
        statistics=StatisticsOperations(store=StatisticsStore(database)),
        diagnostics=DiagnosticStore(database),
        metrics=metrics,
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
