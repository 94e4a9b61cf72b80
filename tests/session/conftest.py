"""One world per module, in which each test makes its own learners; or one for the test alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.session.world import World, new_world
from tests.support.databases import Databases


@pytest.fixture(scope="module")
async def world(databases: Databases) -> AsyncIterator[World]:
    async with new_world(databases) as world:
        yield world


@pytest.fixture
async def fresh_world(databases: Databases) -> AsyncIterator[World]:
    async with new_world(databases) as world:
        yield world
