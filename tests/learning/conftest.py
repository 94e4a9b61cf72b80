"""One world per module, in which each test makes its own learners and courses, and leaves no fault behind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from homeroom.embedded.redis import Redis
from tests.learning.world import World, new_world
from tests.progress.findings import findings_of
from tests.support.databases import Databases


@pytest.fixture(scope="module")
async def shared_world(
    request: pytest.FixtureRequest, databases: Databases, redis_server: Redis
) -> AsyncIterator[World]:
    """A module with `PLANTED = True` writes rows that the service would not write."""
    async with new_world(databases, redis_server) as world:
        yield world
        if not getattr(request.module, "PLANTED", False):
            assert await findings_of(world.database) == []


@pytest.fixture
async def world(shared_world: World) -> AsyncIterator[World]:
    shared_world.replica = await shared_world.start()
    yield shared_world
    await shared_world.heal()
