"""A service is stopped: each call to it ends by its deadline, then at once; the other services go on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from homeroom import probe
from homeroom.services import GATEWAY
from homeroom.supervisor import Stack
from tests.support.http_client import Answer, HttpClient, unique
from tests.support.waiting import eventually

TIMEOUT = {"Request-Timeout": "2"}
# Far beyond the deadline of a call, and far below the time that a call without a deadline takes.
ENDS_SECONDS_MAX = 15.0
BREAKER = 'homeroom_upstream_breaker_state{method="%s",upstream="session_service"} %s'
START = "/homeroom.session.v1.SessionService/CreateSession"

pytestmark = pytest.mark.fault


@pytest.fixture
async def silent_session_service(stack: Stack) -> AsyncIterator[None]:
    pid = stack.pid("session_service")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        await stack.wait_ready()


async def shown(stack: Stack, method: str) -> str:
    """The state of a breaker of the gateway."""
    page = await probe.get(stack.address(GATEWAY.package).ops_port, "/metrics", seconds_max=10.0)
    assert page is not None
    start = BREAKER % (method, "")
    return next(
        (line[len(start) :] for line in page.body.decode().splitlines() if line.startswith(start)), ""
    )


async def test_each_call_to_a_stopped_service_ends_and_its_breaker_opens(
    stack: Stack, http: HttpClient, silent_session_service: None
) -> None:
    user = unique("learner")
    await http.put_account(user)
    number = 0

    async def start() -> Answer:
        nonlocal number
        number += 1
        key = f"k{number}"
        async with asyncio.timeout(ENDS_SECONDS_MAX):
            body = {"testId": "t"}
            return await http.send("POST", "/v1/sessions", user=user, key=key, json=body, headers=TIMEOUT)

    async def stats() -> Answer:
        return await http.send("GET", "/v1/stats", user=user)

    async def open_breaker() -> bool:
        starts = await asyncio.gather(*(start() for _ in range(10)))
        assert {answer.body["reason"] for answer in starts} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert (await stats()).status == 200
        return "2.0" in {await shown(stack, START), await shown(stack, "")}

    await eventually(open_breaker, seconds=60)
    # Now calls are refused without waiting, apart from a few probes.
    refused = await asyncio.gather(*(start() for _ in range(50)))
    at_once = [answer for answer in refused if answer.body["reason"] == "UNAVAILABLE"]
    assert len(at_once) >= 40
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in at_once)
    assert {(await stats()).status for _ in range(10)} == {200}


async def test_a_service_that_goes_on_is_called_again(stack: Stack, http: HttpClient) -> None:
    user, test = unique("learner"), unique("test")
    await http.put_account(user)
    await http.put_test(test, questions=1)
    pid = stack.pid("session_service")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        lost = [http.send("GET", "/v1/sessions", user=user, headers=TIMEOUT) for _ in range(10)]
        assert {answer.status for answer in await asyncio.gather(*lost)} <= {503, 504}
    finally:
        os.kill(pid, signal.SIGCONT)
    started = await http.start_until_answered(user, test, key="k")
    assert started.status == 201, started.text
    await stack.wait_ready()
