"""Bad input gets a clear problem that names the field, and nothing is written."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.http_client import unique


@pytest.fixture
async def learner(http) -> str:
    user = unique("learner")
    await http.put_account(user)
    return user


COUNTS = {
    "session": (
        "SELECT count(*) FROM sessions WHERE user_id = $1",
        "SELECT count(*) FROM idempotency_keys WHERE user_id = $1",
        "SELECT count(*) FROM outbox WHERE user_id = $1",
    ),
    "subscription": (
        "SELECT count(*) FROM holds WHERE user_id = $1",
        "SELECT count(*) FROM daily_usage WHERE user_id = $1",
    ),
}


async def assert_nothing_written(stack, user: str) -> None:
    for database, queries in COUNTS.items():
        connection = await asyncpg.connect(stack.dsn(database))
        try:
            for query in queries:
                assert await connection.fetchval(query, user) == 0, query
        finally:
            await connection.close()


def assert_problem(answer, status: int, reason: str) -> None:
    assert answer.status == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.body
    assert problem["reason"] == reason, problem
    assert problem["status"] == status
    assert problem["title"]
    assert problem["type"]
    assert problem["requestId"] == answer.headers["x-request-id"]
    assert problem["retryable"] in {True, False}


@pytest.mark.parametrize("status", [None, "INACTIVE"])
async def test_an_unknown_or_inactive_user_cannot_start(stack, http, status):
    test, user = unique("test"), unique("learner")
    await http.put_test(test)
    if status:
        await http.put_account(user, status=status)
    assert_problem(await http.start(user, test, key="k"), 400, "INVALID_USER_REFERENCE")
    await assert_nothing_written(stack, user)


async def test_without_credits_a_test_that_costs_cannot_be_started(stack, http, learner):
    test = unique("test")
    await http.put_test(test, creditCost=5)
    answer = await http.start(learner, test, key="k")
    assert_problem(answer, 403, "INSUFFICIENT_CREDITS")
    assert (answer.body["balance"], answer.body["held"], answer.body["needed"]) == (0, 0, 5)
    await assert_nothing_written(stack, learner)
    granted = await http.admin(
        "POST", f"/v1/accounts/{learner}/credits", json={"amount": 7, "reason": "gift"}, key=unique("g")
    )
    assert granted.body["balance"] == 7
    # The refusal was not stored: the same key may succeed now.
    assert (await http.start(learner, test, key="k")).status == 201
    assert (await http.entitlements(learner))["credits"] == {"balance": 7, "held": 5, "available": 2}


BAD_BODIES = [
    pytest.param(b"{", None, id="cut off"),
    pytest.param(b"\xff\xfe", None, id="not UTF-8"),
    pytest.param(b"[]", None, id="not an object"),
    pytest.param(b'"text"', None, id="a string"),
    pytest.param(b"{} {}", None, id="two values"),
    pytest.param(b"{}", "testId", id="missing field"),
    pytest.param(b'{"testId": ""}', "testId", id="empty field"),
    pytest.param(b'{"testId": 7}', "testId", id="number for text"),
    pytest.param(b'{"testId": "t", "color": "red"}', "color", id="unknown field"),
    pytest.param(b'{"testId": "t", "durationMinutes": "soon"}', "durationMinutes", id="text for number"),
    pytest.param(b'{"testId": "t", "durationMinutes": 0}', "durationMinutes", id="too small"),
    pytest.param(b'{"testId": "t", "durationMinutes": 1.5}', "durationMinutes", id="a fraction"),
    pytest.param(b'{"testId": "t", "metadata": []}', "metadata", id="list for map"),
    pytest.param(b'{"testId": "t", "metadata": {"a": 1}}', "metadata", id="number in map"),
]


@pytest.mark.parametrize(("body", "field"), BAD_BODIES)
async def test_a_malformed_body_is_a_problem_that_names_the_field(stack, http, learner, body, field):
    answer = await http.send("POST", "/v1/sessions", user=learner, data=body, key="k")
    assert_problem(answer, 400, "INVALID_ARGUMENT")
    if field is not None:
        assert any(error["field"].startswith(field) for error in answer.body["errors"]), answer.text
    await assert_nothing_written(stack, learner)


async def test_a_body_over_1_mib_is_refused(stack, http, learner):
    body = b'{"testId": "' + b"x" * (1024 * 1024) + b'"}'
    assert_problem(
        await http.send("POST", "/v1/sessions", user=learner, data=body, key="k"), 413, "PAYLOAD_TOO_LARGE"
    )
    await assert_nothing_written(stack, learner)


async def test_an_unknown_test_is_not_found(stack, http, learner):
    assert_problem(await http.start(learner, unique("nothing"), key="k"), 404, "NOT_FOUND")
    await assert_nothing_written(stack, learner)


@pytest.mark.parametrize("key", [None, "", "x" * 256, "with space", "ümlaut"])
async def test_a_start_needs_a_proper_key(stack, http, learner, key):
    test = unique("test")
    await http.put_test(test)
    answer = await http.start(learner, test, key=key)
    assert answer.status == 400, answer.text
    assert answer.body["reason"] in {"IDEMPOTENCY_KEY_MISSING", "INVALID_ARGUMENT"}
    await assert_nothing_written(stack, learner)


async def test_without_a_token_nothing_is_possible(stack, http):
    answer = await http.send("POST", "/v1/sessions", user=None, json={"testId": "t"}, key="k")
    assert_problem(answer, 401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_learner_cannot_act_as_an_admin(http, learner):
    answer = await http.send("PUT", "/v1/plans/mine", user=learner, json={"name": "Mine"})
    assert_problem(answer, 403, "PERMISSION_DENIED")
