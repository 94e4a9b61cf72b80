"""Who may call a process over gRPC: everything needs the service token but a probe's health check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

import chassis.rpc.health
from chassis.errors import Reason, ServiceError
from chassis.rpc.server import Server
from chassis.telemetry.metrics import Metrics
from tests.support.rpc import (
    ADJUST,
    CREDITS,
    LICENSES,
    TOKEN,
    WATCH,
    Credits,
    calling,
    license_handlers,
    reason_of,
    serving,
    tracing,
)
from tests.support.waiting import eventually

WITH_TOKEN = (("x-homeroom-service-token", TOKEN),)
EVERYTHING = [
    ADJUST,
    WATCH,
    "/homeroom.chassis.v1.CarrierService/CarryStream",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/nobody.knows.this/Method",
]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest_asyncio.fixture
async def credits_() -> Credits:
    return Credits()


@pytest_asyncio.fixture
async def server(credits_) -> AsyncIterator[Server]:
    async with serving(credits_) as running:
        yield running


@pytest_asyncio.fixture
async def channel(server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened


async def code_of(rpc) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc
    return caught.value.code()


async def status(channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10.0)
    return int(response.status)


def watched(channel, metadata=WITH_TOKEN):
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), metadata=metadata)


@pytest.mark.parametrize("metadata", [(), (("x-homeroom-service-token", "another"),)])
@pytest.mark.parametrize("path", EVERYTHING)
async def test_without_the_token_every_rpc_is_refused_at_once_also_if_it_sends_nothing(
    channel, credits_, path, metadata
):
    rpc = channel.stream_stream(path)(metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(rpc.read(), 10.0)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(caught.value).details[0].Unpack(info)
    assert info.reason == "UNAUTHENTICATED"
    assert credits_.batches == []


async def test_a_plain_unary_call_without_the_token_is_refused(channel, credits_):
    assert await code_of(channel.unary_unary(ADJUST)(b"", timeout=10.0)) is grpc.StatusCode.UNAUTHENTICATED
    assert credits_.batches == []


async def test_with_the_token_reflection_lists_the_services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async for response in stub.ServerReflectionInfo(iter([asked]), metadata=WITH_TOKEN):
        names = {service.name for service in response.list_services_response.service}
        assert {CREDITS, LICENSES, "grpc.health.v1.Health"} <= names
        break


async def test_a_method_that_this_process_does_not_know_yet_is_unavailable_with_a_status_of_ours(channel):
    rpc = channel.unary_unary("/homeroom.later.v1.LaterService/Later")(b"", metadata=WITH_TOKEN, timeout=10.0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert rpc_status.from_call(caught.value) is not None


async def test_a_probe_checks_without_the_token_and_hears_of_readiness(server, channel):
    assert await status(channel) == SERVING
    await server.set_serving(False)
    assert await status(channel) == NOT_SERVING
    async with calling(server.port) as client:
        with pytest.raises(ServiceError) as caught:
            await client.check_health()
        assert caught.value.reason is Reason.UNAVAILABLE
        assert await reason_of(client) is None  # health is for whoever routes calls; calls are served
        await server.set_serving(True)
        await client.check_health()
    assert await status(channel) == SERVING


async def test_only_the_process_as_a_whole_has_a_health(channel):
    assert await code_of(status(channel, CREDITS)) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("request_", [b"\xff", None])
async def test_a_check_that_says_nothing_is_ended(channel, monkeypatch, request_):
    monkeypatch.setattr(chassis.rpc.health, "REQUEST_SECONDS_MAX", 0.1)
    rpc = channel.stream_stream("/grpc.health.v1.Health/Check")()
    if request_ is not None:
        await rpc.write(request_)
    expected = grpc.StatusCode.DEADLINE_EXCEEDED if request_ is None else grpc.StatusCode.INVALID_ARGUMENT
    assert await code_of(asyncio.wait_for(rpc.read(), 10.0)) is expected
    assert await status(channel) == SERVING


async def test_a_watch_hears_of_each_change_and_of_the_end(server, channel):
    watch = watched(channel)
    assert (await watch.read()).status == SERVING
    await server.set_serving(False)
    assert (await watch.read()).status == NOT_SERVING
    await server.set_serving(True)
    assert (await watch.read()).status == SERVING
    stopping = asyncio.create_task(server.stop(grace_seconds=60.0))
    assert (await watch.read()).status == NOT_SERVING
    assert await watch.read() is grpc.aio.EOF
    await asyncio.wait_for(stopping, 30.0)
    await server.set_serving(True)  # too late: it changes nothing


async def test_watches_are_bounded_and_take_no_place_from_calls(monkeypatch):
    monkeypatch.setattr(chassis.rpc.health, "WATCHES_MAX", 3)
    monkeypatch.setattr("chassis.rpc.server.WATCHES_MAX", 3)
    async with (
        serving(concurrent_rpcs_max=1) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        calling(server.port) as client,
    ):
        watches = [watched(channel) for _ in range(3)]
        assert [(await watch.read()).status for watch in watches] == [SERVING] * 3
        assert await code_of(watched(channel).read()) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await reason_of(client) is None
        assert await status(channel) == SERVING
        watches.pop().cancel()

        async def one_more() -> bool:
            try:
                return (await watched(channel).read()).status == SERVING
            except grpc.aio.AioRpcError:
                return False

        await eventually(one_more)


async def test_a_process_that_is_down_is_not_healthy(server):
    async with calling(server.port) as client:
        await client.check_health()
        await server.stop(grace_seconds=0)
        for _ in range(5):
            with pytest.raises(ServiceError) as caught:
                await client.check_health()
            assert caught.value.reason is Reason.UNAVAILABLE
        assert client.breaker_open


async def test_readiness_that_was_told_before_the_start_holds_after_it():
    server = Server(
        bind="127.0.0.1:0",
        handlers=license_handlers(),
        service_token=TOKEN,
        tracing=tracing(),
        metrics=Metrics(service="test"),
    )
    await server.set_serving(False)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert await status(channel) == NOT_SERVING
        await server.set_serving(True)
        assert await status(channel) == SERVING
    await server.stop(grace_seconds=0)
