"""The files of requests for what learners do all day: answer, send heartbeats, read, learn."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load.identity import Identity
from bench.load.requests import RequestFile

ACTORS = 4000
"""The learners at work. The gateway remembers more verified tokens than that, as it does in real life."""
TEMPLATE = "actor-template"
TEST_ID = "bench-actions"
QUESTIONS = 30
COURSES = 20
FIRST_SEQ = 1_000_000  # all have one length

RECORDS = ACTORS * QUESTIONS
"""Enough for four runs of 6 s at 5,000 a second. A run goes on in the file where the last one ended."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a learner does, again and again.

    Attributes:
        request: method, path and body of an actor's n-th request.
        rounds: how often an actor can do it.
        keyed: each request has an Idempotency-Key of its own.
    """

    name: str
    title: str
    request: Callable[[int], tuple[str, str, str]]
    rounds: int = QUESTIONS
    keyed: bool = False


def actor_id(index: int) -> str:
    return f"actor-{index:07d}"


def question_id(number: int) -> str:
    return f"q-{number:02d}"


def module_id(number: int) -> str:
    return f"bench-module-{number:02d}"


def actions_of(session_id: str) -> list[Action]:
    """The actions on this session, which every actor has under the same id, and on the bench's courses."""
    session = f"/v1/sessions/{session_id}"
    return [
        Action(
            "answers",
            "answer a question",
            lambda n: ("POST", f"{session}/answers", f'{{"questionId":"{question_id(n)}","choice":"a"}}'),
            keyed=True,
        ),
        Action(
            "heartbeats",
            "send a heartbeat",
            lambda n: ("POST", f"{session}:heartbeat", f'{{"seq":{FIRST_SEQ + n},"visible":true}}'),
        ),
        Action("sessions", "read a session", lambda _: ("GET", session, "")),
        Action(
            "completions",
            "complete a lesson",
            lambda n: ("POST", f"/v1/lessons/{module_id(n)}/lesson-1:complete", "{}"),
            rounds=COURSES,
            keyed=True,
        ),
        Action(
            "access", "check access", lambda _: ("GET", f"/v1/lessons/{module_id(0)}/lesson-1/access", "")
        ),
    ]


def make_action_file(action: Action, identity: Identity, tokens: Sequence[str], folder: Path) -> RequestFile:
    """The requests of all actors, round after round, in a file of the folder."""
    count = ACTORS * action.rounds
    records = _records(action, tokens)
    first = next(records)
    path = folder / f"{action.name}-{identity.thumbprint[:12]}.bin"
    draft = path.with_suffix(f".{os.getpid()}")
    with draft.open("wb") as file:
        file.write(first)
        for record in records:
            if len(record) != len(first):
                raise ValueError(f"the requests of {action.name} differ in their lengths")
            file.write(record)
    draft.replace(path)
    return RequestFile(path=path, count=count, record_bytes=len(first))


def _records(action: Action, tokens: Sequence[str]) -> Iterator[bytes]:
    for number in range(action.rounds):
        method, path, body = action.request(number)
        for index, token in enumerate(tokens):
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"]
            if action.keyed:
                key = uuid.uuid5(uuid.NAMESPACE_URL, f"bench/{action.name}/{index}/{number}")
                lines.append(f'Idempotency-Key: "{key}"')
            if body:
                lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
            yield ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
