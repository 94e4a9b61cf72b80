"""Questions to a running Homeroom and back, through its HTTP API."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from homeroom.api import Answer, Api, ApiError
from homeroom.questions.model import Located, Question, Rejection

BATCH_BYTES_MAX = 900_000  # the body of an import may have 1 MiB
BATCH_QUESTIONS_MAX = 500
TRIES_MAX = 6
PAUSE_SECONDS = 0.5
PAUSE_SECONDS_MAX = 15.0
PAGE_SIZE = 500

_AT_FAULT = re.compile(r"questions\[(?P<place>\d+)\]")
_ABOUT_THE_BATCH = frozenset({400, 413, 422})
_LATER = frozenset({408, 429, 502, 503, 504})


@dataclass(slots=True)
class Sent:
    """What the service did with the questions."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    total: int | None = None
    """How many questions the test has now."""
    rejections: list[Rejection] = field(default_factory=list)
    stopped: str = ""
    """Why the rest was not sent; empty when all was sent."""
    unsent: int = 0


async def send_questions(
    api: Api, test_id: str, questions: Sequence[Located], *, on_progress: Callable[[int], None]
) -> Sent:
    """Import the questions in batches, in their order.

    A question that the service refuses costs itself alone: its batch is sent again without it. When the
    service does not answer, a batch is tried several times; then the rest is not sent. Sending all again
    later goes on from there, because what is there already is left unchanged.

    Args:
        api: as an administrator.
        test_id: the test that gets the questions.
        questions: what to send.
        on_progress: is called with the number of questions that have been dealt with.
    """
    sent = Sent()
    waiting = _batches(questions)[::-1]
    while waiting:
        batch = waiting.pop()
        try:
            answer = await _ask(
                api, "POST", f"/v1/tests/{quote(test_id, safe='')}/questions:import", _body(batch)
            )
        except ApiError as error:
            return _stopped(sent, str(error), [batch, *waiting])
        if 200 <= answer.status < 300:
            sent.created += answer.body.get("created", 0)
            sent.updated += answer.body.get("updated", 0)
            sent.unchanged += answer.body.get("unchanged", 0)
            sent.total = answer.body.get("total")
            on_progress(len(batch))
        elif answer.status not in _ABOUT_THE_BATCH:
            return _stopped(sent, answer.problem, [batch, *waiting])
        elif refused := _refused(answer, batch):
            sent.rejections += [Rejection(batch[place].place, reason) for place, reason in refused.items()]
            on_progress(len(refused))
            if rest := [each for place, each in enumerate(batch) if place not in refused]:
                waiting.append(rest)
        elif len(batch) > 1:
            middle = len(batch) // 2
            waiting += [batch[middle:], batch[:middle]]
        else:
            sent.rejections.append(Rejection(batch[0].place, answer.problem))
            on_progress(1)
    return sent


async def list_questions(api: Api, test_id: str, *, on_progress: Callable[[int], None]) -> list[Question]:
    """All questions of a test, in their order. Raises ApiError."""
    found: list[Question] = []
    token = ""
    while True:
        parameters = urlencode({"pageSize": PAGE_SIZE} | ({"pageToken": token} if token else {}))
        path = f"/v1/tests/{quote(test_id, safe='')}/questions?{parameters}"
        answer = await _ask(api, "GET", path)
        if answer.status != 200:
            raise ApiError(f"GET {path} was refused with {answer.problem}")
        page = [_question(each) for each in answer.body.get("questions", [])]
        found += page
        on_progress(len(page))
        token = answer.body.get("nextPageToken", "")
        if not token:
            return found


async def _ask(api: Api, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
    """The answer; a request without one, or one that should be sent later, is sent again a few times."""
    for number in range(1, TRIES_MAX + 1):
        try:
            answer = await api.ask(method, path, body)
        except ApiError:
            if number == TRIES_MAX:
                raise
        else:
            if answer.status not in _LATER or number == TRIES_MAX:
                return answer
        pause = min(PAUSE_SECONDS * 2 ** (number - 1), PAUSE_SECONDS_MAX)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
    raise AssertionError  # the last try returns or raises


def _stopped(sent: Sent, reason: str, batches: Sequence[Sequence[Located]]) -> Sent:
    sent.stopped = reason
    sent.unsent = sum(map(len, batches))
    return sent


def _batches(questions: Sequence[Located]) -> list[list[Located]]:
    batches: list[list[Located]] = []
    size = 0
    for each in questions:
        bytes_of_it = len(json.dumps(_message(each.question)).encode()) + 2
        if not batches or size + bytes_of_it > BATCH_BYTES_MAX or len(batches[-1]) >= BATCH_QUESTIONS_MAX:
            batches.append([])
            size = 0
        batches[-1].append(each)
        size += bytes_of_it
    return batches


def _body(batch: Sequence[Located]) -> dict[str, Any]:
    return {"questions": [_message(each.question) for each in batch]}


def _message(question: Question) -> dict[str, Any]:
    message = {
        "questionId": question.question_id,
        "prompt": question.prompt,
        "choices": list(question.choices),
        "accepted": list(question.accepted),
        "difficulty": question.difficulty,
        "subject": question.subject,
    }
    return {name: value for name, value in message.items() if value is not None}


def _question(message: dict[str, Any]) -> Question:
    return Question(
        question_id=message["questionId"],
        prompt=message["prompt"],
        choices=tuple(message.get("choices", ())),
        accepted=tuple(message.get("accepted", ())),
        difficulty=message.get("difficulty"),
        subject=message.get("subject"),
    )


def _refused(answer: Answer, batch: Sequence[Located]) -> dict[int, str]:
    """The questions of a batch that the problem names, by their places."""
    refused: dict[int, str] = {}
    for violation in answer.body.get("errors", []):
        at_fault = _AT_FAULT.match(str(violation.get("field", "")))
        if at_fault is not None and int(at_fault["place"]) < len(batch):
            name = str(violation["field"])[at_fault.end() :].lstrip(".")
            reason = f"{name} {violation.get('description', '')}".strip()
            refused.setdefault(int(at_fault["place"]), reason)
    return refused
