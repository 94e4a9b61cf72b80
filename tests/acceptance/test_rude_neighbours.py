"""Extreme requests for every public operation, beside sixty polite strangers whose answers never change."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
import pytest

from homeroom.supervisor import Stack
from tests.acceptance import rude_inputs
from tests.acceptance.rude_inputs import Route, RudeRequest
from tests.support.http_client import HttpClient, unique

STRANGERS = 60
ALLOWED_5XX = frozenset({503, 504})
HALF_SENT = 400
EVENT_STREAM = b"Content-Type: text/event-stream"


@dataclass(frozen=True)
class Question:
    """A request of a polite learner, and the bytes that answer it whenever it is asked."""

    method: str
    path: str
    body: bytes | None
    key: str | None
    status: int
    text: str


class Stranger:
    """A polite learner, who knows the answers to what it asks."""

    def __init__(self, http: HttpClient, user: str) -> None:
        self._http = http
        self._user = user
        self._questions: list[Question] = []

    async def settle(self, test: str) -> None:
        """Starts and answers, then asks everything once."""
        await self._http.put_account(self._user)
        start = orjson.dumps({"testId": test})
        session = (await self._ask("POST", "/v1/sessions", start, "start")).body["sessionId"]
        answer = orjson.dumps({"questionId": "q1", "choice": "2"})
        asked = [
            ("POST", "/v1/sessions", start, "start"),
            ("POST", f"/v1/sessions/{session}/answers", answer, "answer"),
            *(("GET", f"/v1/{path}", None, None) for path in ("stats", "entitlements", "accounts/me")),
            *(("GET", f"/v1/{path}", None, None) for path in ("licenses", "credits/entries", "sessions")),
            ("GET", f"/v1/sessions/{session}", None, None),
        ]
        for method, path, body, key in asked:
            known = await self._ask(method, path, body, key)
            self._questions.append(Question(method, path, body, key, known.status, known.text))

    async def ask_again(self, number: int) -> None:
        """Asks one of its questions; fails when the answer is another one."""
        question = self._questions[number % len(self._questions)]
        answer = await self._ask(question.method, question.path, question.body, question.key)
        assert (answer.status, answer.text) == (question.status, question.text)

    async def _ask(self, method: str, path: str, body: bytes | None, key: str | None):
        return await self._http.send(method, path, user=self._user, data=body, key=key)


@pytest.fixture(scope="module")
async def strangers(http: HttpClient) -> list[Stranger]:
    test = unique("polite-test")
    await http.put_test(test, questions=3)
    found = [Stranger(http, unique("polite")) for _ in range(STRANGERS)]
    await asyncio.gather(*(each.settle(test) for each in found))
    return found


@pytest.fixture(scope="module")
async def rude_world(http: HttpClient) -> None:
    """What polite requests of the rude client find."""
    await http.put_account(rude_inputs.RUDE)
    await http.put_test(rude_inputs.TEST, questions=1)


@dataclass(frozen=True)
class RawAnswer:
    status: int
    head: bytes
    body: bytes


async def ask(stack: Stack, sent: bytes) -> RawAnswer:
    """Sends bytes on a connection of their own, and reads to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.address("gateway").port)
    try:
        writer.write(sent)
        received = bytearray()
        try:
            while some := await reader.read(65536):
                received += some
                if EVENT_STREAM in received:  # such an answer has no end; the client leaves
                    break
        except ConnectionError:
            pass  # the gateway does not read the rest of a body that is too large
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
        return RawAnswer(int(status[1]) if status else 0, head, body)
    finally:
        writer.transport.abort()


def assert_fair(request: RudeRequest, answer: RawAnswer) -> None:
    """An answer that a client may see: success, or a problem that is the client's or passes."""
    told = f"{request.route.name}: {request!r:.600} got {answer!r:.900}"
    fair = 200 <= answer.status < 300 or 400 <= answer.status < 500 or answer.status in ALLOWED_5XX
    assert fair, told
    assert b"x-evil" not in answer.head.lower(), told
    if answer.status >= 400:
        problem = orjson.loads(answer.body)
        assert b"Content-Type: application/problem+json" in answer.head, told
        assert f"X-Request-Id: {problem['requestId']}".encode() in answer.head, told
        assert problem["status"] == answer.status, told
        assert problem["type"] == "/problems/" + problem["reason"].lower().replace("_", "-"), told
        assert problem["title"], told
        assert problem["detail"], told
        assert isinstance(problem["retryable"], bool), told
        assert (b"Retry-After: " in answer.head) is problem["retryable"] or answer.status != 503, told


@pytest.mark.parametrize("route", rude_inputs.routes(), ids=lambda route: route.name)
async def test_whatever_one_client_sends_no_stranger_notices(
    stack: Stack, http: HttpClient, strangers: list[Stranger], rude_world: None, route: Route
) -> None:
    """Sixty rude requests and sixty polite ones at a time."""
    tokens: dict[str, str] = {}

    def token(subject: str) -> str:
        return tokens.setdefault(subject, stack.token(subject, rude_inputs.ROLES))

    async def be_rude(request: RudeRequest) -> None:
        assert_fair(request, await ask(stack, request.bytes_with(token)))

    requests = rude_inputs.rude_requests(route)
    for wave in itertools.count():
        rude = list(itertools.islice(requests, STRANGERS))
        if not rude:
            break
        async with asyncio.TaskGroup() as group:
            for at, stranger in enumerate(strangers):
                group.create_task(stranger.ask_again(wave + at))
            for request in rude:
                group.create_task(be_rude(request))
    assert set((await stack.internal_errors()).values()) == {0}


def test_each_operation_with_a_body_has_a_polite_one() -> None:
    with_body = {route.method.name for route in rude_inputs.routes() if route.rule.body}
    assert with_body == rude_inputs.BODIES.keys()


@asynccontextmanager
async def half_sent(stack: Stack, size: int) -> AsyncIterator[None]:
    """Many requests of one learner whose bodies never come."""
    head = (
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {stack.token(rude_inputs.RUDE)}\r\nContent-Length: 60000\r\n\r\n{{"
    )
    port = stack.address("gateway").port
    streams = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(size)))
    try:
        for _, writer in streams:
            writer.write(head.encode())
        yield
    finally:
        for _, writer in streams:
            writer.transport.abort()


async def test_half_sent_requests_of_one_learner_take_nobodys_place(
    stack: Stack, strangers: list[Stranger]
) -> None:
    async with half_sent(stack, HALF_SENT):
        for wave in range(9):
            await asyncio.gather(*(each.ask_again(wave + at) for at, each in enumerate(strangers)))
