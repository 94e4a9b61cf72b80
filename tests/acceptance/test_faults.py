"""Processes are killed, PostgreSQL is restarted, answers are lost; the books balance all the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import asyncpg
import pytest

from chassis import failpoints
from tests.acceptance.conftest import HOLD_AGE_SECONDS
from tests.support.http_client import HttpClient, unique
from tests.support.invariants import read_books
from tests.support.waiting import eventually

STARTS_PER_SECOND = 200
TESTS_PER_LEARNER = 3  # the default plan's daily limit
KILLS = 10
# Some clients give up after their first try, so that the janitor has work to do.
GIVES_UP_EVERY = 10

pytestmark = pytest.mark.fault


@dataclass
class Storm:
    """Starts at a steady rate, each with its own learner, test and key; most retry until answered."""

    http: HttpClient
    learners: list[str]
    tests: list[str]
    answers: dict[tuple[str, str], str] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    aborted: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        pairs = [(learner, test) for test in self.tests for learner in self.learners]
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, (learner, test) in enumerate(pairs):
            if self.stopping.is_set():
                break
            await asyncio.sleep(max(0.0, began + number / STARTS_PER_SECOND - loop.time()))
            start = self.start_once if number % GIVES_UP_EVERY == 0 else self.start
            self.tasks.append(asyncio.create_task(start(learner, test)))
        await asyncio.gather(*self.tasks)

    async def start(self, learner: str, test: str) -> None:
        key = f"start-{test}"
        answer = await self.http.start_until_answered(learner, test, key=key)
        while answer.status == 409 and answer.body["reason"] == "REQUEST_ABORTED":
            # On a slow machine a client may be without an answer for longer than the janitor waits.
            self.aborted += 1
            key += "-again"
            answer = await self.http.start_until_answered(learner, test, key=key)
        self.statuses[answer.status] += 1
        if answer.status == 201:
            self.answers[learner, test] = answer.body["sessionId"]

    async def start_once(self, learner: str, test: str) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # this client gives up
            await self.http.start(learner, test, key=f"start-{test}")


async def killed(stack, name: str, point: str) -> None:
    """Arms a failpoint and returns once the process has died of it and is ready again."""
    restarts = stack.restarts(name)
    failpoints.arm(stack.failpoints, point, "kill")

    async def restarted():
        return stack.restarts(name) > restarts

    await eventually(restarted, seconds=60)
    await stack.wait_ready()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("session_service", "session.after_holds_placed"),
        ("session_service", "session.after_commit"),
        ("subscription_service", "subscription.after_commit"),
    ],
)
async def test_10_kills_under_200_starts_a_second_lose_and_double_nothing(stack, http, name, point):
    prefix = unique("storm")
    learners = [f"{prefix}-{n}" for n in range(5000)]
    tests = [f"{prefix}-t{n}" for n in range(TESTS_PER_LEARNER)]
    for test in tests:
        await http.put_test(test)
    for at in range(0, len(learners), 100):
        await asyncio.gather(*(http.put_account(learner) for learner in learners[at : at + 100]))

    storm = Storm(http, learners, tests)
    running = asyncio.create_task(storm.run())
    for _ in range(KILLS):
        await killed(stack, name, point)
        answered = sum(storm.statuses.values())

        async def going_again(before=answered):
            return sum(storm.statuses.values()) >= before + STARTS_PER_SECOND

        await eventually(going_again, seconds=60)
    storm.stopping.set()
    await running
    # Every client got its session: nearly all with their first key, the others as the README says.
    assert set(storm.statuses) == {201}, storm.statuses
    assert storm.aborted <= storm.statuses[201] / 50

    async def settled():
        books = await read_books(stack)
        return books if books.settled else None

    books = await eventually(settled, seconds=HOLD_AGE_SECONDS + 30)
    assert books.wrong_counters == []
    sessions = await asyncpg.connect(stack.dsn("session"))
    try:
        doubled = await sessions.fetch(
            "SELECT user_id, test_id FROM sessions WHERE starts_with(user_id, $1)"
            " GROUP BY user_id, test_id HAVING count(*) > 1",
            prefix,
        )
        kept = {
            (row["user_id"], row["test_id"]): str(row["session_id"])
            for row in await sessions.fetch(
                "SELECT user_id, test_id, session_id FROM sessions WHERE starts_with(user_id, $1)", prefix
            )
        }
    finally:
        await sessions.close()
    assert doubled == []
    wrong = {pair: session for pair, session in storm.answers.items() if kept.get(pair) != session}
    assert wrong == {}


@pytest.mark.timeout(200)
async def test_a_completed_session_is_counted_once_though_the_relay_dies_before_acknowledging(stack, http):
    test = unique("test")
    await http.put_test(test, questions=1)
    for _ in range(2):
        user = unique("learner")
        await http.put_account(user)
        session = (await http.start_until_answered(user, test, key="s")).body["sessionId"]
        answered = await http.send_until_answered(
            "POST",
            f"/v1/sessions/{session}/answers",
            user=user,
            key="a",
            json={"questionId": "q1", "choice": "2"},
        )
        assert answered.body["correct"] is True
        restarts = stack.restarts("session_service")
        failpoints.arm(stack.failpoints, "relay.after_delivery", "kill")
        done = await http.send_until_answered(
            "POST", f"/v1/sessions/{session}:complete", user=user, key="c", json={}
        )
        assert done.body["state"] == "COMPLETED"

        async def restarted(before=restarts):
            return stack.restarts("session_service") > before

        await eventually(restarted, seconds=60)
        await stack.wait_ready()

        async def told():
            return (await read_books(stack)).open_outbox == 0  # once the dead relay's lease has run out

        await eventually(told, seconds=60)
        stats = await http.stats(user)
        assert (stats["completedSessions"], stats["answers"], stats["correct"]) == (1, 1, 1)
        tests = (await http.entitlements(user))["tests"]
        assert (tests["used"], tests["held"]) == (1, 0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("immediately", [False, True], ids=["fast", "as a crash"])
async def test_postgres_restarted_under_load_costs_no_acknowledged_session(stack, http, immediately):
    prefix = unique("restart")
    learners = [f"{prefix}-{n}" for n in range(700)]
    tests = [f"{prefix}-t{n}" for n in range(TESTS_PER_LEARNER)]
    for test in tests:
        await http.put_test(test)
    for at in range(0, len(learners), 100):
        await asyncio.gather(*(http.put_account(learner) for learner in learners[at : at + 100]))
    storm = Storm(http, learners, tests)
    running = asyncio.create_task(storm.run())
    for _ in range(2):
        before = len(storm.answers)

        async def some_answered(before=before):
            return len(storm.answers) > before + 100 or running.done()

        await eventually(some_answered)
        await stack.restart_postgres(immediately=immediately)
    await running
    assert set(storm.statuses) == {201}, storm.statuses
    sessions = await asyncpg.connect(stack.dsn("session"))
    try:
        kept = {
            (row["user_id"], row["test_id"]): str(row["session_id"])
            for row in await sessions.fetch(
                "SELECT user_id, test_id, session_id FROM sessions WHERE starts_with(user_id, $1)", prefix
            )
        }
    finally:
        await sessions.close()
    assert {pair: kept.get(pair) for pair in storm.answers} == storm.answers

    async def settled():
        books = await read_books(stack)
        return books if books.settled else None

    books = await eventually(settled, seconds=HOLD_AGE_SECONDS + 30)
    assert books.wrong_counters == []


async def test_a_dead_service_costs_only_what_needs_it(stack, http):
    user, test = unique("learner"), unique("test")
    await http.put_account(user)
    await http.put_test(test)
    assert (await http.start(user, test, key="k")).status == 201
    await stack.kill("progress_service")
    assert (await http.start(user, test, key="k")).replayed
    assert (await http.send("GET", "/v1/entitlements", user=user)).status == 200
    stats = await http.send_until_answered("GET", "/v1/stats", user=user)
    assert stats.status == 200
    await stack.wait_ready()
