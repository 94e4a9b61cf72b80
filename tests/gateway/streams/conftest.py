"""A backend that streams, and a gateway in front of it, for each module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.streaming.streams import StreamLimits
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway, running_gateway
from tests.gateway.streams.source import METHODS
from tests.gateway.tokens import IdentityProvider


@pytest_asyncio.fixture(scope="module")
async def streaming_backend() -> AsyncIterator[Backend]:
    backend = Backend([METHODS[0].service])
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
def backend(streaming_backend: Backend) -> Backend:
    streaming_backend.reset()
    return streaming_backend


@pytest_asyncio.fixture(scope="module")
async def gateway(streaming_backend: Backend, identity: IdentityProvider) -> AsyncIterator[Gateway]:
    async with running_gateway(
        upstream_port=streaming_backend.port,
        identity=identity,
        more_methods=METHODS,
        stream_limits=StreamLimits(comment_seconds=0.1, write_seconds_max=0.5),
    ) as gateway:
        yield gateway
