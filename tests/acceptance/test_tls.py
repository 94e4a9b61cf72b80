"""The whole stack over mutual TLS: learners notice nothing, and who has no certificate gets nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from homeroom.services import GATEWAY, SERVICES
from homeroom.supervisor import Stack
from tests.support.certificates import Authority, environment
from tests.support.http_client import HttpClient, unique

CHECK = "/grpc.health.v1.Health/Check"


@pytest.fixture
async def secured() -> AsyncIterator[Stack]:
    # Not pytest's own folder: as root it is closed to the user that PostgreSQL runs as.
    root = Path(tempfile.mkdtemp(prefix="homeroom-tls-"))
    # The embedded stack gives all processes one environment, so they share one certificate with all names.
    files = Authority.made(root / "tls").issue(*(service.package for service in SERVICES))
    async with Stack(
        data_dir=root / "data", port=0, ephemeral=True, redis=False, env=environment(files)
    ) as running:
        yield running
    shutil.rmtree(root)


async def test_a_stack_with_certificates_serves_learners_and_nobody_without_one(secured: Stack) -> None:
    http = HttpClient(base_url=secured.gateway_url, token=secured.token)
    try:
        user, test = unique("learner"), unique("test")
        await http.put_account(user)
        await http.put_test(test, questions=1)
        started = await http.start(user, test, key="k")
        assert started.status == 201, started.text
    finally:
        await http.close()
    for service in SERVICES:
        if service is GATEWAY:
            continue
        async with grpc.aio.insecure_channel(secured.address(service.package).target) as plain:
            with pytest.raises(grpc.aio.AioRpcError):
                await plain.unary_unary(CHECK)(b"", timeout=5)
