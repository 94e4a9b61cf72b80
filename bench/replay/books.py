"""What the server says about each learner afterwards: their statistics and their sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.replay.caller import Caller
from bench.replay.errors import ReplayError
from bench.replay.log import LoggedLearner, PracticeLog
from bench.replay.school import TEST_ID

PAGE_SIZE = 500
POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Books:
    """`stats` as GET /v1/stats has it; `sessions` as GET /v1/sessions has them, oldest first."""

    stats: Mapping[str, Any]
    sessions: Sequence[Mapping[str, Any]]


class Reader:
    """Reads the books of many learners at once."""

    def __init__(self, caller: Caller, *, token: Callable[[str], str], at_once: int) -> None:
        self._caller = caller
        self._token = token
        self._turns = asyncio.Semaphore(at_once)

    async def wait_until_counted(self, log: PracticeLog, *, seconds_max: float) -> bool:
        """Wait until /v1/stats has as many completed sessions as the log; False if it never has.

        Results travel through an outbox, so a session is counted a moment after it was completed.
        """
        give_up_at = time.monotonic() + seconds_max
        waiting = list(log.learners)
        while waiting:
            counted = await asyncio.gather(*(self._is_counted(learner) for learner in waiting))
            waiting = [learner for learner, done in zip(waiting, counted, strict=True) if not done]
            if waiting and time.monotonic() > give_up_at:
                return False
            await asyncio.sleep(POLL_SECONDS if waiting else 0)
        return True

    async def read(self, log: PracticeLog) -> dict[str, Books]:
        """The books of all learners; raises ReplayError."""
        books = await asyncio.gather(*(self._read_books(learner.name) for learner in log.learners))
        return {learner.name: each for learner, each in zip(log.learners, books, strict=True)}

    async def _is_counted(self, learner: LoggedLearner) -> bool:
        async with self._turns:
            stats = await self._get(learner.name, "/v1/stats", {})
        return bool(stats["completedSessions"] >= len(learner.sessions))

    async def _read_books(self, learner: str) -> Books:
        async with self._turns:
            stats = await self._get(learner, "/v1/stats", {})
            sessions: list[Mapping[str, Any]] = []
            query = {"testId": TEST_ID, "pageSize": str(PAGE_SIZE)}
            while True:
                page = await self._get(learner, "/v1/sessions", query)
                sessions += page["sessions"]
                if not page["nextPageToken"]:
                    return Books(stats, sessions[::-1])
                query["pageToken"] = page["nextPageToken"]

    async def _get(self, learner: str, path: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        response = await self._caller.send("GET", path, token=self._token(learner), params=query)
        if not response.ok:
            raise ReplayError(f"GET {path} of {learner} was refused: {response.problem}")
        return response.body
