"""The replay's requests are as patient as a good app's, and its reading of the server is complete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from bench.replay.books import Reader
from bench.replay.caller import Caller
from bench.replay.errors import ReplayError
from bench.replay.log import LoggedLearner, LoggedSession, PracticeLog

SESSIONS = (LoggedSession("ada", "s1", ()), LoggedSession("ada", "s2", ()))
LOG = PracticeLog((), (LoggedLearner("ada", SESSIONS), LoggedLearner("bob", SESSIONS[:1])))


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def problem(status: int, *, retryable: bool) -> web.Response:
    return web.json_response(
        {"reason": "R", "detail": "why", "retryable": retryable},
        status=status,
        content_type="application/problem+json",
        headers={"Retry-After": "0"},
    )


async def test_what_can_be_helped_is_sent_again_with_the_same_key() -> None:
    keys: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        keys.append(request.headers.get("Idempotency-Key"))
        match len(keys):
            case 1:
                return problem(503, retryable=True)
            case 2:
                assert request.transport is not None
                request.transport.abort()  # an answer that never arrives
                return web.Response()
            case 3:
                return web.Response(status=502, text="a proxy's own words")
        return web.json_response({"a": 1}, status=201, headers={"Idempotent-Replayed": "true"})

    async with serving(handler) as url, Caller(url, connections_max=2) as caller:
        response = await caller.send("POST", "/v1/x", token="t", body={}, key="k")
    assert (response.status, response.replayed, response.body) == (201, True, {"a": 1})
    assert keys == ["k"] * 4
    assert caller.retries == 3
    assert caller.statuses == {"503 R": 1, "no answer": 1, "502": 1, "201": 1}


async def test_a_key_that_was_given_up_is_replaced_by_another_the_same_one_each_time() -> None:
    given_up: set[str] = set()
    keys: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        key = request.headers["Idempotency-Key"]
        keys.append(key)
        if len(keys) <= 2 or key in given_up:
            given_up.add(key)
            return web.json_response({"reason": "REQUEST_ABORTED", "retryable": False}, status=409)
        return web.json_response({"key": key}, status=201)

    async with serving(handler) as url, Caller(url, connections_max=2) as caller:
        first = await caller.send("POST", "/v1/x", token="t", body={}, key="k")
        again = await caller.send("POST", "/v1/x", token="t", body={}, key="k")
    assert first.body == again.body == {"key": keys[2]}
    assert len(set(keys[:3])) == 3
    assert keys[3:] == keys[:3]
    assert caller.statuses == {"409 REQUEST_ABORTED": 4, "201": 2}


async def test_another_conflict_is_an_answer() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response({"reason": "SESSION_CLOSED", "retryable": False}, status=409)

    async with serving(handler) as url, Caller(url, connections_max=2) as caller:
        response = await caller.send("POST", "/v1/x", token="t", body={}, key="k")
    assert response.label == "409 SESSION_CLOSED"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_problem_that_no_retry_helps_is_an_answer(status: int) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return problem(status, retryable=False)

    async with serving(handler) as url, Caller(url, connections_max=2) as caller:
        response = await caller.send("POST", "/v1/x", token="t", body={}, key="k")
    assert (response.ok, response.problem) == (False, f"{status} R why")
    assert caller.retries == 0


async def test_patience_ends() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return problem(503, retryable=True)

    async with serving(handler) as url, Caller(url, connections_max=2, patience_seconds=0.2) as caller:
        with pytest.raises(ReplayError, match="503 R why"):
            await caller.send("POST", "/v1/x", token="t", body={}, key="k")


async def test_a_retry_after_longer_than_our_patience_is_not_cut_short() -> None:
    asked = 0

    async def handler(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        answer = problem(503, retryable=True)
        answer.headers["Retry-After"] = "3600"
        return answer

    async with serving(handler) as url, Caller(url, connections_max=2) as caller:
        with pytest.raises(ReplayError):
            await caller.send("POST", "/v1/x", token="t", body={}, key="k")
    assert asked == 1


async def test_books_are_read_over_all_pages_and_shown_oldest_first() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/stats":
            return web.json_response({"completedSessions": 2})
        if "pageToken" in request.query:
            return web.json_response({"sessions": [{"sessionId": "s1"}], "nextPageToken": ""})
        return web.json_response({"sessions": [{"sessionId": "s2"}], "nextPageToken": "next"})

    async with serving(handler) as url, Caller(url, connections_max=4) as caller:
        reader = Reader(caller, token=lambda _: "t", at_once=4)
        books = await reader.read(LOG.first(1))
        assert await reader.wait_until_counted(LOG, seconds_max=5)
    assert [session["sessionId"] for session in books["ada"].sessions] == ["s1", "s2"]


async def test_the_wait_for_statistics_ends_when_they_never_come() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response({"completedSessions": 1})  # enough for bob, not for ada

    async with serving(handler) as url, Caller(url, connections_max=4) as caller:
        reader = Reader(caller, token=lambda _: "t", at_once=4)
        assert not await reader.wait_until_counted(LOG, seconds_max=0.01)
