"""One session per start and one unit per session, whatever double-clicks, retries and second tabs do."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg
import pytest

from tests.support.http_client import unique
from tests.support.waiting import eventually


@pytest.fixture
async def learner(http) -> str:
    user = unique("learner")
    await http.put_account(user)
    return user


@pytest.fixture
async def test_id(http) -> str:
    test = unique("test")
    await http.put_test(test, questions=3)
    return test


async def count_sessions(stack, user: str) -> int:
    connection = await asyncpg.connect(stack.dsn("session"))
    try:
        return await connection.fetchval("SELECT count(*) FROM sessions WHERE user_id = $1", user)
    finally:
        await connection.close()


async def test_100_starts_with_one_key_are_one_session_one_unit_and_one_answer(stack, http, learner, test_id):
    answers = await asyncio.gather(*(http.start(learner, test_id, key="k1") for _ in range(100)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert Counter(answer.replayed for answer in answers) == {True: 99, False: 1}
    assert await count_sessions(stack, learner) == 1
    tests = (await http.entitlements(learner))["tests"]
    assert (tests["used"], tests["held"], tests["remaining"]) == (0, 1, 2)


async def test_the_same_key_with_another_body_is_refused(http, learner, test_id):
    assert (await http.start(learner, test_id, key="k1")).status == 201
    other = await http.send(
        "POST", "/v1/sessions", user=learner, key="k1", json={"testId": test_id, "title": "Another"}
    )
    assert other.status == 422
    assert other.body["reason"] == "IDEMPOTENCY_KEY_REUSED"


async def test_the_same_key_from_another_user_is_independent(http, learner, test_id):
    other = unique("learner")
    await http.put_account(other)
    mine, theirs = await asyncio.gather(
        http.start(learner, test_id, key="k1"), http.start(other, test_id, key="k1")
    )
    assert (mine.status, theirs.status) == (201, 201)
    assert mine.body["sessionId"] != theirs.body["sessionId"]
    assert not theirs.replayed
    peek = await http.send("GET", f"/v1/sessions/{mine.body['sessionId']}", user=other)
    assert peek.status == 404


async def test_50_starts_of_one_test_with_50_keys_take_one_unit_even_when_the_limit_is_1(
    stack, http, test_id
):
    plan, user = unique("plan"), unique("learner")
    await http.put_plan(plan, daily_test_limit=1)
    await http.put_account(user, plan=plan)
    answers = await asyncio.gather(*(http.start(user, test_id, key=f"tab-{n}") for n in range(50)))
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 49}
    assert Counter(answer.body["resumed"] for answer in answers) == {False: 1, True: 49}
    assert len({answer.body["sessionId"] for answer in answers}) == 1
    assert await count_sessions(stack, user) == 1
    tests = (await http.entitlements(user))["tests"]
    assert (tests["limit"], tests["used"], tests["held"], tests["remaining"]) == (1, 0, 1, 0)


async def test_200_starts_of_200_tests_with_one_unit_left_start_one(stack, http):
    plan, user = unique("plan"), unique("learner")
    await http.put_plan(plan, daily_test_limit=1)
    await http.put_account(user, plan=plan)
    names = [unique("test") for _ in range(200)]
    await asyncio.gather(*(http.put_test(name) for name in names))
    answers = await asyncio.gather(
        *(http.start_until_answered(user, name, key=f"start-{name}") for name in names)
    )
    assert Counter(answer.status for answer in answers) == {201: 1, 429: 199}
    for answer in answers:
        if answer.status == 429:
            problem = answer.body
            assert problem["reason"] == "DAILY_LIMIT_REACHED"
            assert (problem["limit"], problem["used"], problem["held"]) == (1, 0, 1)
            assert problem["resetsAt"].endswith("T00:00:00Z")
            assert answer.headers["content-type"].startswith("application/problem+json")
    assert await count_sessions(stack, user) == 1


async def test_a_completed_session_spends_its_unit_and_is_counted_once(http, learner, test_id):
    session = (await http.start(learner, test_id, key="s")).body["sessionId"]
    for n, choice in ((1, "2"), (2, "4"), (3, "wrong"), (3, " 6 ")):
        answer = await http.send(
            "POST",
            f"/v1/sessions/{session}/answers",
            user=learner,
            key=f"a-{n}-{choice.strip()}",
            json={"questionId": f"q{n}", "choice": choice},
        )
        assert answer.status == 200, answer.text
    assert answer.body == {
        "questionId": "q3",
        "correct": True,
        "attempts": 2,
        "answered": 3,
        "total": 3,
        "scoreSoFar": 1.0,
    }
    completions = await asyncio.gather(
        *(
            http.send("POST", f"/v1/sessions/{session}:complete", user=learner, key="done", json={})
            for _ in range(20)
        )
    )
    assert {answer.status for answer in completions} == {200}
    assert len({answer.text for answer in completions}) == 1
    assert completions[0].body["state"] == "COMPLETED"
    assert completions[0].body["score"] == 1.0
    again = await http.send("POST", f"/v1/sessions/{session}:complete", user=learner, key="again", json={})
    assert (again.status, again.body) == (200, completions[0].body)

    async def spent():
        tests = (await http.entitlements(learner))["tests"]
        return (tests["used"], tests["held"]) == (1, 0)

    async def counted():
        return (await http.stats(learner))["completedSessions"]

    await eventually(spent)
    assert await eventually(counted) == 1
    stats = await http.stats(learner)
    assert (stats["answers"], stats["correct"], stats["questionsAnswered"]) == (4, 3, 3)


async def test_abandoning_an_unanswered_session_gives_the_unit_back(http, learner, test_id):
    session = (await http.start(learner, test_id, key="s")).body["sessionId"]
    answer = await http.send("POST", f"/v1/sessions/{session}:abandon", user=learner, key="no", json={})
    assert (answer.status, answer.body["state"]) == (200, "ABANDONED")

    async def given_back():
        tests = (await http.entitlements(learner))["tests"]
        return (tests["used"], tests["held"]) == (0, 0)

    await eventually(given_back)
    fresh = await http.start(learner, test_id, key="s2")
    assert (fresh.status, fresh.body["attempt"]) == (201, 1), "the one that was abandoned used no attempt"


async def test_a_response_can_be_read_at_once(http, learner, test_id):
    for n in range(3):
        test = test_id if n == 0 else unique("test")
        if n:
            await http.put_test(test)
        started = await http.start(learner, test, key=f"k{n}")
        read = await http.send("GET", f"/v1/sessions/{started.body['sessionId']}", user=learner)
        assert read.status == 200
        assert read.body["sessionId"] == started.body["sessionId"]
