"""The systems of the bench of actions: each action of learners on one stack, and a bare handler."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.load.actions import COURSES, QUESTIONS, TEMPLATE, TEST_ID, module_id, question_id
from bench.load.identity import Identity
from bench.load.outcome import LoadOutcome
from bench.load.requests import RequestFile
from bench.load.wrk import run_wrk
from bench.systems import tables
from homeroom import probe
from homeroom.api import Api
from homeroom.embedded.process import Program, end, spawn
from homeroom.ports import free_ports
from homeroom.services import SERVICES
from homeroom.supervisor import Stack

DATABASES = ("session", "subscription", "progress")
BARE = "bare aiohttp"
READY_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class LearnerAction:
    """One action on a running stack. Nothing is emptied between two runs: learners go on where they were."""

    name: str
    title: str
    path: str
    stack: Stack
    databases: tuple[str, ...] = DATABASES

    @property
    def url(self) -> str:
        return self.stack.gateway_url

    def processes(self) -> Mapping[str, int]:
        names = [service.package for service in SERVICES]
        if self.stack.redis_url is not None:
            names.append("redis")
        found = {name: self.stack.pid(name) for name in names}
        return {name: pid for name, pid in found.items() if pid is not None}

    async def start(self) -> None:
        """The stack runs already."""

    async def stop(self) -> None:
        """The caller that started the stack stops it."""

    async def load(self, requests: RequestFile, *, connections: int, seconds: int) -> LoadOutcome:
        return await run_wrk(f"{self.url}{self.path}", requests, connections=connections, seconds=seconds)

    async def counts(self) -> Mapping[str, int]:
        return {}

    async def reset(self) -> None:
        """What was done stays done."""


class BareAiohttp:
    """A process of its own that answers each GET with a little JSON."""

    name = BARE
    title = "a bare aiohttp handler"
    databases: tuple[str, ...] = ()

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def processes(self) -> Mapping[str, int]:
        return {} if self._process is None else {"bare": self._process.pid}

    async def start(self) -> None:
        """Raises RuntimeError if it does not become ready."""
        (self._port,) = free_ports(1)
        self._process = await spawn(
            Program(
                name="bare",
                command=[sys.executable, "-P", "-m", "bench.peers.bare_aiohttp", str(self._port)],
                environment={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                log=self._directory / "bare.log",
                lock=self._directory / "bare.lock",
            )
        )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while await probe.get(self._port, "/") is None:
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the bare handler does not start: see {self._directory / 'bare.log'}")
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await end(process, signal.SIGTERM, grace_seconds=STOP_SECONDS_MAX)

    async def load(self, requests: RequestFile, *, connections: int, seconds: int) -> LoadOutcome:
        return await run_wrk(f"{self.url}/", requests, connections=connections, seconds=seconds)

    async def counts(self) -> Mapping[str, int]:
        return {}

    async def reset(self) -> None:
        """It keeps nothing."""


async def furnish(stack: Stack, identity: Identity, *, learners: list[str], actors: list[str]) -> str:
    """Make a school: accounts for all, and for each actor a session under way; returns that session's id.

    One learner of each kind is made through the API. The others are copies of their rows.
    """
    async with Api(stack.gateway_url, identity.token("bench-admin", "admin")) as admin:
        await admin.want("PUT", "/v1/tests/bench-01", _test(questions=0))
        await admin.want("PUT", f"/v1/tests/{TEST_ID}", _test(questions=QUESTIONS))
        await admin.want("POST", f"/v1/tests/{TEST_ID}/questions:import", {"questions": _questions()})
        for number in range(COURSES):
            await admin.want("PUT", f"/v1/courses/bench-course-{number:02d}", _course(number))
        for template in ("learner-template", TEMPLATE):
            await admin.want("PUT", f"/v1/accounts/{template}", _account(template))
    await _copy(stack, "learner-template", learners)
    async with Api(stack.gateway_url, identity.token(TEMPLATE, "learner")) as actor:
        started = await actor.want("POST", "/v1/sessions", {"testId": TEST_ID}, key="bench")
        for number in range(COURSES):
            course = f"/v1/courses/bench-course-{number:02d}/enrollment"
            await actor.want("POST", course, {}, key=f"bench-{number}")
    await _copy(stack, TEMPLATE, actors)
    return str(started["sessionId"])


async def _copy(stack: Stack, template: str, copies: list[str]) -> None:
    for database in DATABASES:
        await tables.clone_rows(stack.dsn(database), template, copies)
        await tables.settle(stack.dsn(database))


def _test(*, questions: int) -> dict[str, object]:
    return {
        "title": "Bench",
        "kind": "PRACTICE",
        "difficulty": "medium",
        "questionCount": questions,
        "creditCost": 0,
        "countsTowardDailyLimit": True,
    }


def _questions() -> list[dict[str, object]]:
    return [
        {
            "questionId": question_id(number),
            "prompt": f"Which of these is the answer to question {number}?",
            "choices": ["a", "b", "c", "d"],
            "accepted": ["b"],
        }
        for number in range(QUESTIONS)
    ]


def _course(number: int) -> dict[str, object]:
    lessons = [{"lessonId": f"lesson-{n}", "title": f"Lesson {n}", "xp": 10} for n in (1, 2, 3)]
    module = {"moduleId": module_id(number), "title": "Module", "lessons": lessons}
    return {"title": f"Course {number}", "modules": [module]}


def _account(user_id: str) -> dict[str, object]:
    return {
        "email": f"{user_id}@bench.example",
        "displayName": user_id,
        "emailVerified": True,
        "status": "ACTIVE",
    }
