"""One gateway and one backend per test module; one identity provider for all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.backend import Backend
from tests.gateway.running import Gateway, running_gateway
from tests.gateway.tokens import IdentityProvider


@pytest.fixture(scope="session")
def identity() -> IdentityProvider:
    return IdentityProvider()


@pytest_asyncio.fixture(scope="module")
async def shared_backend() -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start()
    yield backend
    await backend.stop()


@pytest_asyncio.fixture(scope="module")
async def gateway(shared_backend: Backend, identity: IdentityProvider) -> AsyncIterator[Gateway]:
    async with running_gateway(upstream_port=shared_backend.port, identity=identity) as gateway:
        yield gateway


@pytest.fixture
def backend(shared_backend: Backend) -> Backend:
    shared_backend.reset()
    return shared_backend
