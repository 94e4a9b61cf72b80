"""`If-Match` on a whole stack: the version is compared in the transaction that makes the change."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.support.http_client import Answer, HttpClient, unique


@pytest.fixture
async def learner(http: HttpClient) -> str:
    user = unique("learner")
    await http.put_account(user)
    return user


@pytest.fixture
async def started(http: HttpClient, learner: str) -> Answer:
    test = unique("test")
    await http.put_test(test, questions=2)
    answer = await http.start(learner, test, key="k1")
    assert answer.status == 201
    return answer


async def move(
    http: HttpClient, learner: str, session: str, verb: str, *, etag: str | None, key: str = ""
) -> Answer:
    return await http.send(
        "POST",
        f"/v1/sessions/{session}:{verb}",
        user=learner,
        key=key or unique(verb),
        json={},
        headers=None if etag is None else {"If-Match": etag},
    )


async def test_a_change_since_then_is_412_and_changes_nothing(http, learner, started):
    session, etag = started.body["sessionId"], started.headers["etag"]
    assert etag == f'"{started.body["version"]}"'
    paused = await move(http, learner, session, "pause", etag=etag)
    assert paused.status == 200
    assert paused.headers["etag"] == f'"{paused.body["version"]}"' != etag
    for verb in ("resume", "complete", "abandon"):
        late = await move(http, learner, session, verb, etag=etag)
        assert (late.status, late.body["reason"]) == (412, "VERSION_MISMATCH")
        assert late.body["version"] == paused.body["version"]
    seen = await http.send("GET", f"/v1/sessions/{session}", user=learner)
    assert (seen.body["state"], seen.headers["etag"]) == ("PAUSED", paused.headers["etag"])
    resumed = await move(http, learner, session, "resume", etag=seen.headers["etag"])
    assert (resumed.status, resumed.body["state"]) == (200, "ACTIVE")
    assert (await move(http, learner, session, "abandon", etag="*")).status == 200


async def test_of_twenty_tabs_that_saw_the_same_version_one_may_move(http, learner, started):
    session, etag = started.body["sessionId"], started.headers["etag"]
    answers = await asyncio.gather(
        *(move(http, learner, session, "pause", etag=etag) for _ in range(10)),
        *(move(http, learner, session, "abandon", etag=etag) for _ in range(10)),
    )
    statuses = Counter(answer.status for answer in answers)
    assert statuses[200] == 1
    assert set(statuses) <= {200, 409, 412}
    seen = await http.send("GET", f"/v1/sessions/{session}", user=learner)
    assert seen.body["version"] == started.body["version"] + 1


async def test_a_replay_comes_before_the_comparison(http, learner, started):
    session, etag = started.body["sessionId"], started.headers["etag"]
    first = await move(http, learner, session, "pause", etag=etag, key="p1")
    again = await move(http, learner, session, "pause", etag=etag, key="p1")
    assert (again.status, again.replayed, again.text) == (200, True, first.text)
    # The version is a part of the request.
    other = await move(http, learner, session, "pause", etag='"99"', key="p1")
    assert (other.status, other.body["reason"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    # A refusal for the version is not stored: with the right one, the same key works.
    assert (await move(http, learner, session, "resume", etag=etag, key="r1")).status == 412
    assert (await move(http, learner, session, "resume", etag=first.headers["etag"], key="r1")).status == 200
