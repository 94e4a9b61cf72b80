"""One subscription database per test; Hypothesis tries more in the nightly profile."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import asyncpg
import hypothesis
import pytest

from chassis.postgres import Connection, Database
from homeroom.embedded.provisioning import ServiceDatabase
from tests.subscription.service import Subscriptions

hypothesis.settings.register_profile(
    "ci", max_examples=200, stateful_step_count=30, deadline=None, print_blob=True
)
hypothesis.settings.register_profile(
    "nightly", max_examples=5000, stateful_step_count=60, deadline=None, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
async def truth(subscription_database: ServiceDatabase) -> AsyncIterator[Connection]:
    """A connection beside the pool, for looking at the truth and for doing harm."""
    connection = await asyncpg.connect(subscription_database.superuser)
    yield connection
    await connection.close()


@pytest.fixture
async def database(subscription_database: ServiceDatabase) -> AsyncIterator[Database]:
    database = await Database.connect(subscription_database.service, maximum=8)
    yield database
    await database.close()


@pytest.fixture
async def subscriptions(database: Database, truth: Connection) -> Subscriptions:
    return Subscriptions(database, truth)
