"""A gateway without room."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.gateway.backend import Backend
from tests.gateway.quick_refusals.lines import PAGE, full
from tests.gateway.running import Gateway


@pytest_asyncio.fixture
async def crowded(backend: Backend, gateway: Gateway) -> AsyncIterator[Gateway]:
    async with full(backend, gateway, cors_origins=[PAGE]) as made:
        yield made
