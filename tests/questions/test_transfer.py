"""Sending questions to a gateway that refuses, stumbles and goes away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from homeroom.api import Api, ApiError
from homeroom.questions import transfer
from homeroom.questions.model import Located, Place, Question
from homeroom.questions.transfer import Sent, list_questions, send_questions

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.0)


@asynccontextmanager
async def gateway(handler: Handler) -> AsyncIterator[Api]:
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with Api(f"http://127.0.0.1:{runner.addresses[0][1]}", "token") as api:
            yield api
    finally:
        await runner.cleanup()


class School:
    """What an import endpoint keeps, and how it answers; it refuses a prompt that is `bad` or `awful`."""

    def __init__(self, stumbles: int = 0, gone_after: int = 10**6) -> None:
        self.kept: dict[str, Any] = {}
        self.requests = 0
        self.stumbles = stumbles
        self.gone_after = gone_after

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.requests > self.gone_after:
            return web.json_response({"status": 503, "reason": "UNAVAILABLE"}, status=503)
        if self.stumbles:
            self.stumbles -= 1
            return web.json_response({"status": 503, "reason": "UNAVAILABLE"}, status=503)
        questions = (await request.json())["questions"]
        errors = [
            {"field": f"questions[{place}].prompt", "description": "is bad"}
            for place, each in enumerate(questions)
            if each["prompt"] == "bad"
        ]
        if errors:
            return web.json_response({"detail": "bad", "reason": "INVALID", "errors": errors}, status=400)
        if any(each["prompt"] == "awful" for each in questions):
            return web.json_response({"detail": "awful", "reason": "INVALID"}, status=400)
        created = [each for each in questions if each["questionId"] not in self.kept]
        self.kept |= {each["questionId"]: each for each in questions}
        counts = {"created": len(created), "updated": 0, "unchanged": len(questions) - len(created)}
        return web.json_response({**counts, "total": len(self.kept)})


def located(*prompts: str) -> list[Located]:
    return [Located(Question(f"q{n}", prompt, (), ("a",)), Place(n)) for n, prompt in enumerate(prompts, 1)]


async def send(school: School, questions: list[Located]) -> tuple[Sent, int]:
    done: list[int] = []
    async with gateway(school.answer) as api:
        sent = await send_questions(api, "a/test", questions, on_progress=done.append)
    return sent, sum(done)


async def test_refused_questions_cost_themselves_alone() -> None:
    school = School()
    questions = located("good", "bad", "good", "awful", "good", "bad", "good")
    sent, done = await send(school, questions)
    assert (sent.created, sent.total, sent.stopped, done) == (4, 4, "", 7)
    assert [(str(each.place), each.reason) for each in sent.rejections] == [
        ("line 2", "prompt is bad"),
        ("line 6", "prompt is bad"),
        ("line 4", "400 INVALID: awful"),
    ]
    assert list(school.kept) == ["q1", "q3", "q5", "q7"]
    again, _ = await send(school, questions)
    assert (again.created, again.unchanged) == (0, 4)


async def test_a_batch_is_tried_again_while_the_service_stumbles() -> None:
    sent, _ = await send(School(stumbles=transfer.TRIES_MAX - 1), located("good"))
    assert (sent.created, sent.stopped) == (1, "")


async def test_what_was_not_sent_is_told_and_sent_by_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BATCH_QUESTIONS_MAX", 2)
    school = School(gone_after=2)
    questions = located(*["good"] * 7)
    sent, done = await send(school, questions)
    assert (sent.created, sent.unsent, done) == (4, 3, 4)
    assert "503" in sent.stopped
    school.gone_after = 10**6
    sent, _ = await send(school, questions)
    assert (sent.created, sent.unchanged, sent.unsent) == (3, 4, 0)


async def test_a_refusal_of_everything_stops_at_once() -> None:
    async def forbidden(_: web.Request) -> web.Response:
        return web.json_response({"reason": "PERMISSION_DENIED", "detail": "no"}, status=403)

    async with gateway(forbidden) as api:
        sent = await send_questions(api, "t", located("a", "b"), on_progress=lambda _: None)
        assert (sent.unsent, sent.stopped) == (2, "403 PERMISSION_DENIED: no")
        with pytest.raises(ApiError):
            await list_questions(api, "t", on_progress=lambda _: None)


async def test_a_gateway_that_is_not_there_is_told() -> None:
    async with Api("http://127.0.0.1:9", "token") as api:
        sent = await send_questions(api, "t", located("a"), on_progress=lambda _: None)
    assert (sent.unsent, bool(sent.stopped)) == (1, True)


def test_batches_stay_below_the_largest_body() -> None:
    questions = located(*("é" * 9_000 for _ in range(300)))
    batches = transfer._batches(questions)
    assert [each for batch in batches for each in batch] == questions
    sizes = [len(transfer.json.dumps(transfer._body(batch)).encode()) for batch in batches]
    assert max(sizes) <= 2**20
    assert len(batches) == -(-sum(sizes) // transfer.BATCH_BYTES_MAX)
