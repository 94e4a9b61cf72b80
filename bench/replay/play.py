"""Plays the log: many learners at once, each strictly in the order of their own log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.replay.caller import Caller
from bench.replay.log import LoggedLearner, LoggedSession, PracticeLog
from bench.replay.school import TEST_ID
from bench.replay.seen import Seen, seen_of_body
from bench.replay.sending import operations_of, send_in_uploads, send_one_by_one, with_repeats
from homeroom.supervisor import together


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
    """Plays a log through a caller, as the learners whose tokens it makes.

    Args:
        seed: if given, each operation is sent one to three times, as this seed says.
        upload: whether answers and completions are sent in uploads instead of one by one.
    """

    def __init__(
        self,
        caller: Caller,
        *,
        token: Callable[[str], str],
        seed: int | None = None,
        upload: bool = False,
    ) -> None:
        self._caller = caller
        self._token = token
        self._seed = seed
        self._upload = upload
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
        operations = operations_of(session)
        sent = operations if self._seed is None else with_repeats(session, operations, self._seed)

        async def send(path: str, body: Mapping[str, Any], key: str | None) -> tuple[Seen, Mapping[str, Any]]:
            return await self._send(path, body, token=token, key=key)

        if self._upload:
            seen = await send_in_uploads(path, session, sent, send, self._seed or 0)
        else:
            seen = await send_one_by_one(path, sent, send)
        *answers, complete = [seen[operation.key] for operation in operations]
        return SessionSeen(start, tuple(answers), complete)

    async def _step(self, path: str, body: Mapping[str, Any], *, token: str, key: str) -> Seen:
        seen, _ = await self._send(path, body, token=token, key=key)
        return seen

    async def _send(
        self, path: str, body: Mapping[str, Any], *, token: str, key: str | None
    ) -> tuple[Seen, Mapping[str, Any]]:
        began = time.monotonic()
        response = await self._caller.send("POST", path, token=token, body=body, key=key)
        self._latencies_seconds.append(time.monotonic() - began)
        seen = seen_of_body(
            status=response.status, replayed=response.replayed, digest=response.digest, body=response.body
        )
        return seen, response.body
