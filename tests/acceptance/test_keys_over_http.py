"""What an `Idempotency-Key` promises to an HTTP client, also when its retry reaches another gateway.

The rules are those of draft-ietf-httpapi-idempotency-key-header; docs/idempotency.md has them.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import pytest

from chassis import failpoints
from homeroom.services import GATEWAY
from tests.support.http_client import Answer, HttpClient, unique
from tests.support.waiting import eventually


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture(scope="module")
async def second(stack) -> AsyncIterator[HttpClient]:
    """A second gateway before the same services."""
    program = stack._services[GATEWAY.package]._program
    port = free_port()
    own = {"HOMEROOM_BIND": f"127.0.0.1:{port}", "HOMEROOM_OPS_BIND": f"127.0.0.1:{free_port()}"}
    process = await asyncio.create_subprocess_exec(
        *program.command, env={**program.environment, **own}, stderr=asyncio.subprocess.DEVNULL
    )
    client = HttpClient(base_url=f"http://127.0.0.1:{port}", token=stack.token)

    async def is_ready() -> bool:
        try:
            return (await client.send("GET", "/readyz", user=None)).status == 200
        except aiohttp.ClientError:
            return False

    await eventually(is_ready, seconds=20)
    yield client
    await client.close()
    process.terminate()
    await process.wait()


@pytest.fixture
async def learner(http: HttpClient) -> str:
    user = unique("learner")
    await http.put_account(user)
    return user


@pytest.fixture
async def test_id(http: HttpClient) -> str:
    test = unique("test")
    await http.put_test(test, questions=1)
    return test


async def test_a_mutation_without_a_key_is_400_and_its_type_leads_to_an_explanation(http, learner, test_id):
    answer = await http.send("POST", "/v1/sessions", user=learner, json={"testId": test_id})
    assert (answer.status, answer.body["reason"]) == (400, "IDEMPOTENCY_KEY_MISSING")
    page = await http.send("GET", answer.body["type"], user=None)
    assert (page.status, "IDEMPOTENCY_KEY_MISSING" in page.text) == (200, True)


async def test_twins_at_two_gateways_have_one_effect_and_one_answer(http, second, learner, test_id):
    answers = await asyncio.gather(
        *(client.start(learner, test_id, key="k1") for _ in range(20) for client in (http, second))
    )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert Counter(answer.replayed for answer in answers) == {True: 39, False: 1}


async def test_another_payload_is_422_at_the_other_gateway_too(http, second, learner, test_id):
    assert (await http.start(learner, test_id, key="k1")).status == 201
    other = {"testId": test_id, "title": "Another"}
    for client in (second, http):
        answer = await client.send("POST", "/v1/sessions", user=learner, key="k1", json=other)
        assert (answer.status, answer.body["reason"]) == (422, "IDEMPOTENCY_KEY_REUSED")
        assert not answer.body["retryable"]
        # The key still stands for the first request, however the JSON is written.
        again = await client.send(
            "POST", "/v1/sessions", user=learner, key='"k1"', data=b'{ "testId":\n"%s"}' % test_id.encode()
        )
        assert (again.status, again.replayed) == (201, True)


async def test_a_retry_while_the_first_try_is_under_way_gets_the_same_answer(
    stack, http, second, learner, test_id
):
    failpoints.arm(stack.failpoints, "session.after_holds_placed", "pause 1")
    first = asyncio.create_task(http.start(learner, test_id, key="k1"))
    await eventually(lambda: not (stack.failpoints / "session.after_holds_placed").exists())
    retry = await second.start(learner, test_id, key="k1")
    answer = await first
    assert (answer.status, retry.status) == (201, 201)
    assert answer.text == retry.text
    assert answer.replayed != retry.replayed


async def started(http: HttpClient, learner: str, test_id: str) -> str:
    answer = await http.start(learner, test_id, key="k1")
    assert answer.status == 201
    session: str = answer.body["sessionId"]
    return session


async def complete(client: HttpClient, learner: str, session: str, **options: str) -> Answer:
    return await client.send(
        "POST", f"/v1/sessions/{session}:complete", user=learner, key="done", json={}, headers=options or None
    )


async def test_twins_wait_for_whoever_holds_the_learner(stack, http, second, learner, test_id):
    session = await started(http, learner, test_id)
    other = await asyncpg.connect(stack.dsn("session"))
    async with other.transaction():
        await other.execute("SELECT FROM sessions WHERE user_id = $1 FOR UPDATE", learner)
        twins = [asyncio.create_task(complete(client, learner, session)) for client in (http, second)]
        await eventually(lambda: waiting_for_locks(stack))
    await other.close()
    answers = await asyncio.gather(*twins)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False, True]


async def waiting_for_locks(stack) -> bool:
    connection = await asyncpg.connect(stack.dsn("session"))
    try:
        return await connection.fetchval(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
    finally:
        await connection.close()


async def test_the_wait_is_bounded_and_the_key_still_works_afterwards(stack, http, second, learner, test_id):
    session = await started(http, learner, test_id)
    other = await asyncpg.connect(stack.dsn("session"))
    async with other.transaction():
        await other.execute("SELECT FROM sessions WHERE user_id = $1 FOR UPDATE", learner)
        began = time.monotonic()
        late = await complete(http, learner, session, **{"Request-Timeout": "1"})
        assert late.status in {503, 504}
        assert late.body["retryable"]
        assert time.monotonic() - began < 5  # far less than the default of 10 s
    await other.close()
    answer = await second.send_until_answered(
        "POST", f"/v1/sessions/{session}:complete", user=learner, key="done", json={}
    )
    assert (answer.status, answer.body["state"]) == (200, "COMPLETED")
    assert (await complete(http, learner, session)).replayed


async def test_a_refusal_is_not_stored_so_the_same_key_may_succeed_later(http, learner):
    test = unique("test")
    assert (await http.start(learner, test, key="k1")).status == 404
    await http.put_test(test, questions=1)
    assert (await http.start(learner, test, key="k1")).status == 201
