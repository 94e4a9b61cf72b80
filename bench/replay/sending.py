"""How the operations of one session are sent: one by one or in uploads, once or several times."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.replay.errors import ReplayError
from bench.replay.log import LoggedSession
from bench.replay.seen import Seen, seen_of_body

TIMES_MAX = 3
UPLOAD_SIZE_MAX = 60
ROUNDS_MAX = 100
PAUSE_SECONDS = 0.2

_STATUS_CODES = {"APPLIED": 200, "DUPLICATE": 200, "CONFLICT": 422, "REFUSED": 409}

# Sends a request with this path, body and key (None: the request needs none) until it has a final answer.
Send = Callable[[str, Mapping[str, Any], str | None], Awaitable[tuple[Seen, Mapping[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of a session: by its own route, or in an upload under the same key."""

    key: str
    route: str
    kind: str
    body: Mapping[str, Any]


def operations_of(session: LoggedSession) -> list[Operation]:
    """The answers in their order, then the completion."""
    answers = [
        Operation(
            session.key(f"answer {number}"),
            "/answers",
            "answer",
            {"questionId": answer.question_id, "choice": answer.choice, "occurredAt": answer.occurred_at},
        )
        for number, answer in enumerate(session.answers, start=1)
    ]
    return [*answers, Operation(session.key("complete"), ":complete", "complete", {})]


def with_repeats(session: LoggedSession, operations: Sequence[Operation], seed: int) -> list[Operation]:
    """Each operation one to three times: its repeats come anywhere after it, the completion's at the end."""
    chance = session.chance(seed, "repeats")
    *answers, completion = operations
    places: list[tuple[float, Operation]] = []
    for place, operation in enumerate(answers):
        repeats = chance.randrange(TIMES_MAX)
        places += [(place, operation)]
        places += [(chance.uniform(place, len(answers)), operation) for _ in range(repeats)]
    places.sort(key=lambda each: each[0])
    return [*(operation for _, operation in places), *[completion] * chance.randint(1, TIMES_MAX)]


async def send_one_by_one(path: str, operations: Sequence[Operation], send: Send) -> dict[str, Seen]:
    """The first answer to each operation, by its key.

    Raises ReplayError if a repeat is answered differently.
    """
    seen: dict[str, Seen] = {}
    for operation in operations:
        answer, _ = await send(path + operation.route, operation.body, operation.key)
        _keep(seen, operation.key, answer)
    return seen


async def send_in_uploads(
    path: str, session: LoggedSession, operations: Sequence[Operation], send: Send, seed: int
) -> dict[str, Seen]:
    """The same, through the batch upload; what may succeed later is sent again."""
    seen: dict[str, Seen] = {}
    for some in _in_uploads(session, operations, seed):
        waiting = list(some)
        for _ in range(ROUNDS_MAX):
            body = {"operations": [{"opId": each.key, each.kind: each.body} for each in waiting]}
            answer, told = await send(f"{path}/operations", body, None)
            if not answer.ok:
                raise ReplayError(f"{path}/operations: {answer.problem}")
            results = list(zip(waiting, told["results"], strict=True))
            for operation, result in results:
                if not result["retryable"]:
                    _keep(seen, operation.key, _seen_of_result(result))
            waiting = [operation for operation, result in results if result["retryable"]]
            if not waiting:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            raise ReplayError(f"{path}/operations: some operations are never carried out")
    return seen


def _in_uploads(
    session: LoggedSession, operations: Sequence[Operation], seed: int
) -> Iterator[Sequence[Operation]]:
    """The operations in uploads of random sizes, in their order."""
    chance = session.chance(seed, "uploads")
    rest = list(operations)
    while rest:
        size = chance.randint(1, UPLOAD_SIZE_MAX)
        yield rest[:size]
        rest = rest[size:]


def _keep(seen: dict[str, Seen], key: str, answer: Seen) -> None:
    first = seen.setdefault(key, answer)
    if (first.status, first.digest) != (answer.status, answer.digest):
        raise ReplayError(f"{key} was answered with {first.fields} first, and with {answer.fields} again")


def _seen_of_result(result: Mapping[str, Any]) -> Seen:
    body = result.get("answer") or result.get("session") or {}
    told = {**body, "reason": result["reason"], "detail": result["detail"]}
    return seen_of_body(
        status=_STATUS_CODES[result["status"]],
        replayed=result["status"] == "DUPLICATE",
        digest=hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).hexdigest(),
        body=told,
    )
