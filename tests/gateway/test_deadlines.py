"""Time limits, and upstreams that are slow, away or killed in the middle of a call."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from homeroom.ports import free_ports
from tests.gateway.backend import Backend
from tests.gateway.running import Answer, Gateway, running_gateway
from tests.gateway.tokens import IdentityProvider
from tests.support.waiting import eventually

SOON = {"Request-Timeout": "0.5"}


async def test_the_default_timeout_is_ten_seconds(gateway: Gateway, backend: Backend) -> None:
    await gateway.request("GET", "/v1/stats")
    assert 5.0 < backend.only_item.context.remaining_seconds() < 10.0


@pytest.mark.parametrize(("wish", "least", "most"), [("60", 50, 60), ("30.5", 20, 30.5), ("2", 0.2, 2)])
async def test_a_client_may_say_how_long_it_waits(
    gateway: Gateway, backend: Backend, wish: str, least: float, most: float
) -> None:
    await gateway.request("GET", "/v1/stats", headers={"Request-Timeout": wish})
    assert least < backend.only_item.context.remaining_seconds() < most


@pytest.mark.parametrize(
    "wish",
    [
        "",
        "soon",
        "0",
        "0.1",
        "0.49",
        "-1",
        "61",
        "60.1",
        "1e1",
        "inf",
        "nan",
        "5s",
        "1,5",
        "\u0665",
        "1" * 50,
    ],
)
async def test_a_time_limit_out_of_bounds_is_refused(gateway: Gateway, backend: Backend, wish: str) -> None:
    answer = await gateway.request("GET", "/v1/stats", headers={"Request-Timeout": wish})
    assert answer.fields == {"Request-Timeout": "must be a number of seconds from 0.5 to 60"}
    assert not backend.items


async def test_a_call_without_an_answer_ends_at_its_deadline(gateway: Gateway, backend: Backend) -> None:
    backend.gate.clear()
    answers = await asyncio.gather(
        gateway.request("GET", "/v1/stats", headers=SOON),
        gateway.request("POST", "/v1/sessions", body={"testId": "t"}, headers=SOON),
    )
    assert [(answer.status, answer.reason) for answer in answers] == [(504, "DEADLINE_EXCEEDED")] * 2
    assert all(answer.json()["retryable"] for answer in answers)
    backend.gate.set()
    assert (await gateway.request("GET", "/v1/stats")).status == 200


async def test_a_call_that_hangs_does_not_delay_the_others(gateway: Gateway, backend: Backend) -> None:
    backend.gate.clear()
    hanging = asyncio.create_task(gateway.request("GET", "/v1/stats", headers={"Request-Timeout": "30"}))
    await eventually(lambda: bool(backend.items))
    impatient = await gateway.request("GET", "/v1/stats", headers=SOON)
    assert impatient.status == 504
    assert not hanging.done()
    backend.gate.set()
    assert (await hanging).status == 200


@asynccontextmanager
async def gateway_to(port: int, identity: IdentityProvider) -> AsyncIterator[Gateway]:
    async with running_gateway(upstream_port=port, identity=identity) as gateway:
        yield gateway


def patient(gateway: Gateway, method: str, path: str) -> asyncio.Task[Answer]:
    """A request that would wait for its whole minute, if nothing else ended it."""
    return asyncio.create_task(gateway.request(method, path, headers={"Request-Timeout": "60"}))


async def test_an_upstream_that_is_down_is_unavailable_at_once_and_found_again(
    identity: IdentityProvider,
) -> None:
    (port,) = free_ports(1)
    async with gateway_to(port, identity) as gateway:
        async with asyncio.timeout(20):
            answers = [await patient(gateway, "GET", "/v1/stats") for _ in range(12)]
        assert {(answer.status, answer.reason) for answer in answers} == {(503, "UNAVAILABLE")}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        ready = await gateway.request("GET", "/readyz")
        assert ready.status == 503
        assert {check["name"] for check in ready.json()["checks"] if not check["ok"]} == {
            "session_service",
            "subscription_service",
            "progress_service",
            "any service",
        }
        backend = Backend()
        await backend.start(port=port)
        try:
            await eventually(lambda: _answers(gateway), seconds=20)
        finally:
            await backend.stop()


async def test_a_gateway_is_ready_while_any_service_answers(
    backend: Backend, identity: IdentityProvider
) -> None:
    """A load balancer must not remove every gateway because one service is away."""
    away = free_ports(2)
    ports = {"session": backend.port, "subscription": away[0], "progress": away[1]}
    async with running_gateway(upstream_port=ports, identity=identity) as gateway:
        ready = await gateway.request("GET", "/readyz")
        assert ready.status == 200
        checks = {check["name"]: (check["ok"], check["required"]) for check in ready.json()["checks"]}
        assert checks == {
            "signing keys": (True, True),
            "session_service": (True, False),
            "subscription_service": (False, False),
            "progress_service": (False, False),
            "any service": (True, True),
        }
        assert (await gateway.request("POST", "/v1/sessions", body={"testId": "t"})).status == 201


async def test_a_service_that_hangs_does_not_make_the_gateway_unready(
    backend: Backend, identity: IdentityProvider
) -> None:
    async def accept_and_say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.append(writer)

    silent: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(accept_and_say_nothing, "127.0.0.1", 0)
    hanging = server.sockets[0].getsockname()[1]
    ports = {"session": hanging, "subscription": backend.port, "progress": hanging}
    try:
        async with running_gateway(upstream_port=ports, identity=identity) as gateway:
            assert (await gateway.request("GET", "/readyz")).status == 200
    finally:
        server.close()
        for writer in silent:
            writer.transport.abort()


async def test_an_invalid_request_is_refused_without_a_call_to_the_upstream(
    identity: IdentityProvider,
) -> None:
    (port,) = free_ports(1)
    async with gateway_to(port, identity) as gateway:
        answer = await gateway.request("POST", "/v1/sessions", body={"testId": "", "durationMinutes": -1})
        assert set(answer.fields) == {"testId", "durationMinutes"}


async def _answers(gateway: Gateway) -> bool:
    return (await gateway.request("GET", "/v1/stats")).status == 200


HANGING_BACKEND = """
import asyncio
from tests.gateway.backend import Backend

async def main():
    backend = Backend()
    await backend.start(port={port})
    backend.gate.clear()
    print("serving", flush=True)
    await backend.arrived.wait()
    print("arrived", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def hanging_backend(port: int) -> asyncio.subprocess.Process:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HANGING_BACKEND.format(port=port),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    await said(child, b"serving")
    return child


async def said(child: asyncio.subprocess.Process, word: bytes) -> None:
    assert child.stdout is not None
    async with asyncio.timeout(30):
        assert (await child.stdout.readline()).strip() == word


@pytest.mark.fault
async def test_an_upstream_killed_in_the_middle_of_a_call_is_unavailable(identity: IdentityProvider) -> None:
    (port,) = free_ports(1)
    child = await hanging_backend(port)
    try:
        async with gateway_to(port, identity) as gateway:
            asked = patient(gateway, "POST", "/v1/sessions/s1:complete")
            await said(child, b"arrived")
            child.kill()
            await child.wait()
            async with asyncio.timeout(20):
                answer = await asked
            assert (answer.status, answer.reason) == (503, "UNAVAILABLE")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


@pytest.mark.fault
async def test_a_keyed_call_finds_the_restarted_upstream_with_the_same_key(
    identity: IdentityProvider,
) -> None:
    (port,) = free_ports(1)
    child = await hanging_backend(port)
    backend = Backend()
    try:
        async with gateway_to(port, identity) as gateway:
            asked = patient(gateway, "POST", "/v1/sessions/s1:complete")
            await said(child, b"arrived")
            child.kill()
            await child.wait()
            await backend.start(port=port)
            first = await asked
            if first.status != 200:  # the restart took longer than the retries lasted
                assert first.reason == "UNAVAILABLE"
                await eventually(lambda: _completes(gateway), seconds=20)
            assert {item.context.idempotency_key for item in backend.items} == {"k1"}
    finally:
        await backend.stop()
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _completes(gateway: Gateway) -> bool:
    return (await gateway.request("POST", "/v1/sessions/s1:complete")).status == 200


@pytest.mark.fault
async def test_a_stopped_upstream_is_noticed_by_the_deadline(identity: IdentityProvider) -> None:
    (port,) = free_ports(1)
    child = await hanging_backend(port)
    try:
        async with gateway_to(port, identity) as gateway:
            child.send_signal(signal.SIGSTOP)
            answer = await gateway.request("GET", "/v1/stats", headers={"Request-Timeout": "0.5"})
            assert (answer.status, answer.reason) == (504, "DEADLINE_EXCEEDED")
    finally:
        child.send_signal(signal.SIGCONT)
        child.kill()
        await child.wait()
