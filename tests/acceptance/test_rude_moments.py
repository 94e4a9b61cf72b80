"""A learner goes on at once, whatever went wrong the moment before; all seen through the gateway alone."""

from __future__ import annotations

import asyncio
import os
import signal

import asyncpg
import pytest

from chassis import failpoints
from homeroom import probe
from homeroom.services import GATEWAY, SERVICES
from homeroom.supervisor import Stack
from tests.acceptance import conftest
from tests.support.freezing import freeze
from tests.support.http_client import HttpClient, unique
from tests.support.waiting import eventually

PAUSE = "pause 30"  # beyond any deadline of these tests
READINESS_SECONDS_MAX = 20.0
AWAY_SECONDS = 15.0

pytestmark = pytest.mark.fault


@pytest.fixture
async def learner(http: HttpClient) -> str:
    """May start one test a day."""
    plan, user = unique("plan"), unique("learner")
    await http.put_plan(plan, daily_test_limit=1)
    await http.put_account(user, plan=plan)
    return user


@pytest.fixture
async def tests(http: HttpClient) -> list[str]:
    names = [unique("test") for _ in range(2)]
    for name in names:
        await http.put_test(name, questions=1)
    return names


async def abandon(http: HttpClient, user: str, session: str) -> None:
    ended = await http.send_until_answered(
        "POST", f"/v1/sessions/{session}:abandon", user=user, key=unique("abandon"), json={}
    )
    assert (ended.status, ended.body["state"]) == (200, "ABANDONED")


@pytest.mark.parametrize("same_test", [True, False])
async def test_after_an_unanswered_session_the_next_start_succeeds_at_once(
    http: HttpClient, learner: str, tests: list[str], same_test: bool
) -> None:
    for number in range(15):
        started = await http.start(learner, tests[0 if same_test else number % 2], key=f"s{number}")
        assert started.status == 201, started.text
        await abandon(http, learner, started.body["sessionId"])


async def test_also_when_subscription_service_was_away_as_it_was_abandoned(
    stack: Stack, http: HttpClient, learner: str, tests: list[str]
) -> None:
    started = await http.start(learner, tests[0], key="s")
    pid = stack.pid("subscription_service")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # silent, and not started again by its supervisor
    try:
        await abandon(http, learner, started.body["sessionId"])
    finally:
        os.kill(pid, signal.SIGKILL)
    again = await http.start_until_answered(learner, tests[1], key="s2")
    assert again.status == 201, again.text
    await stack.wait_ready()


@pytest.mark.parametrize("same_test", [True, False])
async def test_a_start_that_runs_out_of_time_after_its_hold_locks_nobody_out(
    stack: conftest.TestedStack, http: HttpClient, learner: str, tests: list[str], same_test: bool
) -> None:
    failpoints.arm(stack.failpoints, "session.after_holds_placed", PAUSE)
    late = await http.start(learner, tests[0], key="k", headers={"Request-Timeout": "1"})
    assert (late.status, late.body["reason"]) == (504, "DEADLINE_EXCEEDED")
    following = await http.start(learner, tests[0 if same_test else 1], key="k2")
    assert following.status == 201, following.text
    units = (await http.entitlements(learner))["tests"]
    assert (units["used"], units["held"]) == (0, 1)
    gone = await http.start(learner, tests[0], key="k")
    assert (gone.status, gone.body["reason"]) == (409, "REQUEST_ABORTED")


async def test_a_start_that_runs_out_of_time_after_its_hold_can_be_sent_again_with_its_key(
    stack: conftest.TestedStack, http: HttpClient, learner: str, tests: list[str]
) -> None:
    failpoints.arm(stack.failpoints, "session.after_holds_placed", PAUSE)
    late = await http.start(learner, tests[0], key="k", headers={"Request-Timeout": "1"})
    assert late.status == 504
    again = await http.start(learner, tests[0], key="k")
    assert (again.status, again.replayed) == (201, False)


async def test_the_hold_of_a_killed_start_that_nobody_repeats_is_given_back_and_the_watermark_stays(
    stack: conftest.TestedStack, http: HttpClient, learner: str, tests: list[str]
) -> None:
    before = await watermark(stack)
    restarts = stack.restarts("session_service")
    failpoints.arm(stack.failpoints, "session.after_holds_placed", "kill")
    lost = await http.start(learner, tests[0], key="k")
    assert lost.status == 503

    async def restarted() -> bool:
        return stack.restarts("session_service") > restarts

    await eventually(restarted, seconds=30)
    await stack.wait_ready()
    assert await watermark(stack) >= before
    assert (await http.entitlements(learner))["tests"]["held"] == 1

    async def given_back() -> bool:
        return (await http.entitlements(learner))["tests"]["held"] == 0

    await eventually(given_back, seconds=conftest.HOLD_AGE_SECONDS + 30)
    assert (await http.start(learner, tests[1], key="k2")).status == 201


async def watermark(stack: Stack) -> tuple[object, ...]:
    """Up to where the janitor has looked; the least of all tuples before its first look."""
    connection = await asyncpg.connect(stack.dsn("session"))
    try:
        row = await connection.fetchrow("SELECT placed_at, user_id, hold_id FROM hold_watermarks")
    finally:
        await connection.close()
    return () if row is None else tuple(row)


async def readiness(stack: Stack) -> dict[str, int]:
    """What `/readyz` says, by process."""
    found = {}
    for service in SERVICES:
        answer = await probe.get(stack.address(service.package).ops_port, "/readyz", seconds_max=10.0)
        found[service.package] = 0 if answer is None else answer.status
    return found


async def test_the_gateway_stays_ready_without_progress_service_and_learners_go_on(
    stack: Stack, http: HttpClient, learner: str, tests: list[str]
) -> None:
    pid = stack.pid("progress_service")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        started = await http.start(learner, tests[0], key="s")
        assert started.status == 201, started.text
        answered = await http.send(
            "POST",
            f"/v1/sessions/{started.body['sessionId']}/answers",
            user=learner,
            key="a",
            json={"questionId": "q1", "choice": "2"},
        )
        assert answered.status == 200, answered.text

        async def shown() -> bool:
            page = await probe.get(stack.address(GATEWAY.package).port, "/readyz", seconds_max=10.0)
            assert page is not None
            assert page.status == 200
            return b'"name":"progress_service","ok":false' in page.body

        await eventually(shown, seconds=READINESS_SECONDS_MAX)
        ended = await http.send(
            "POST", f"/v1/sessions/{started.body['sessionId']}:complete", user=learner, key="c", json={}
        )
        assert ended.status == 200, ended.text
    finally:
        os.kill(pid, signal.SIGCONT)
    await stack.wait_ready()

    async def counted() -> bool:
        return (await http.stats(learner))["completedSessions"] == 1

    await eventually(counted, seconds=60)


async def test_nobody_is_ready_while_postgresql_is_silent_and_all_are_when_it_goes_on(
    stack: Stack, http: HttpClient, learner: str, tests: list[str]
) -> None:
    freezing = asyncio.create_task(freeze(stack, "postgres", AWAY_SECONDS))

    async def unready() -> bool:
        return set((await readiness(stack)).values()) == {503}

    await eventually(unready, seconds=AWAY_SECONDS)
    assert not freezing.done()
    refused = await http.start(learner, tests[0], key="s", headers={"Request-Timeout": "1"})
    assert refused.status in {503, 504}
    await freezing
    await stack.wait_ready()
    assert set((await readiness(stack)).values()) == {200}
    assert (await http.start_until_answered(learner, tests[0], key="s")).status == 201
