"""Plays the log: many learners at once, each strictly in the order of their own log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.replay.caller import Caller, Response
from bench.replay.log import LoggedAnswer, LoggedLearner, LoggedSession, PracticeLog
from bench.replay.school import TEST_ID
from homeroom.supervisor import together

# The body of a start carries every question, so only these fields of a body are kept.
_FIELDS_OF_INTEREST = frozenset(
    {"sessionId", "resumed", "state", "total", "answered", "questionId", "correct", "attempts", "score"}
    | {"reason", "detail"}
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the gateway answered to one step; `digest` identifies the whole body."""

    status: int
    replayed: bool
    digest: str
    fields: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def problem(self) -> str:
        return f"{self.status} {self.fields.get('reason', '')} {self.fields.get('detail', '')}".strip()


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """One session as it was played; it has no answers and no end if its start was refused."""

    start: Seen
    answers: tuple[Seen, ...]
    complete: Seen | None

    def steps(self) -> list[tuple[str, Seen]]:
        """Every step, with the name from which its key is made."""
        answers = [(f"answer {number}", seen) for number, seen in enumerate(self.answers, start=1)]
        end = [("complete", self.complete)] if self.complete is not None else []
        return [("start", self.start), *answers, *end]


@dataclass(frozen=True, slots=True)
class Play:
    """A whole play: each learner's sessions in their order, and how long all of it took."""

    sessions: Mapping[str, Sequence[SessionSeen]]
    seconds: float
    latencies_seconds: Sequence[float]
    retries: int


class Player:
    """Plays a log through a caller, as the learners whose tokens it makes."""

    def __init__(self, caller: Caller, *, token: Callable[[str], str]) -> None:
        self._caller = caller
        self._token = token
        self._latencies_seconds: list[float] = []

    async def play(self, log: PracticeLog, *, at_once: int, advance: Callable[[int], None]) -> Play:
        """Play the log with `at_once` learners at a time; `advance` receives the number of new answers.

        Raises ReplayError if the gateway gives no final answer.
        """
        began, retries = time.monotonic(), self._caller.retries
        self._latencies_seconds = []
        turns = asyncio.Semaphore(at_once)
        sessions: dict[str, list[SessionSeen]] = {}

        async def play_learner(learner: LoggedLearner) -> None:
            async with turns:
                token = self._token(learner.name)
                seen = sessions[learner.name] = []
                for session in learner.sessions:
                    seen.append(await self._play_session(session, token))
                    advance(len(session.answers))

        await together(*(play_learner(learner) for learner in log.learners))
        return Play(
            sessions,
            seconds=time.monotonic() - began,
            latencies_seconds=sorted(self._latencies_seconds),
            retries=self._caller.retries - retries,
        )

    async def _play_session(self, session: LoggedSession, token: str) -> SessionSeen:
        start = await self._step(
            "/v1/sessions",
            {"testId": TEST_ID, "metadata": {"logSession": session.name}},
            token=token,
            key=session.key("start"),
        )
        if not start.ok:
            return SessionSeen(start, (), None)
        path = f"/v1/sessions/{start.fields['sessionId']}"
        answers: list[Seen] = []
        for number, answer in enumerate(session.answers, start=1):
            key = session.key(f"answer {number}")
            answers.append(await self._step(f"{path}/answers", _answer_body(answer), token=token, key=key))
        complete = await self._step(f"{path}:complete", {}, token=token, key=session.key("complete"))
        return SessionSeen(start, tuple(answers), complete)

    async def _step(self, path: str, body: Mapping[str, Any], *, token: str, key: str) -> Seen:
        began = time.monotonic()
        response = await self._caller.send("POST", path, token=token, body=body, key=key)
        self._latencies_seconds.append(time.monotonic() - began)
        return _seen(response)


def _answer_body(answer: LoggedAnswer) -> dict[str, Any]:
    return {"questionId": answer.question_id, "choice": answer.choice, "occurredAt": answer.occurred_at}


def _seen(response: Response) -> Seen:
    fields = {name: value for name, value in response.body.items() if name in _FIELDS_OF_INTEREST}
    return Seen(response.status, response.replayed, response.digest, fields)
