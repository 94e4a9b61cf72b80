"""Learners who do everything a learner can do, and retry as README.md says, while a test disturbs the stack.

Each learner ends with the same totals, whatever was killed meanwhile, or something was lost or counted twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import aiohttp

from tests.support.http_client import Answer, HttpClient, unique

REQUESTS_PER_SECOND = 200
WORKERS = 64
PATIENCE_SECONDS = 120.0
CREDITS = 50
PRICE = 5
# The default plan's daily limit, and so the tests that each learner spends.
SPENT = 3
LESSONS = 5
LESSON_XP = 10
# Two of the lessons change the level; the others only add to its XP.
LEVELS = {1: 0, 2: 20, 3: 40}


class MixedLoad:
    """About 200 requests a second: accounts, credits, starts, answers, ends, lessons, lists.

    `answered` counts final answers, `statuses` every answer. `surprises` are answers that README.md does not
    tell a client to expect; `learners` have come to the end of their day.
    """

    def __init__(self, http: HttpClient) -> None:
        self.answered = 0
        self.statuses: Counter[str] = Counter()
        self.surprises: list[str] = []
        self.learners: list[str] = []
        self._http = http
        self._prefix = unique("mixed")
        self.tests = [f"{self._prefix}-t{number}" for number in range(SPENT + 1)]
        self.course = f"{self._prefix}-course"
        self.specialization = f"{self._prefix}-player"
        self._stopping = False
        self._workers: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for test in self.tests:
            await self._http.put_test(test, questions=2, creditCost=PRICE)
        levels = [
            {"level": level, "name": f"Level {level}", "xpRequired": xp} for level, xp in LEVELS.items()
        ]
        await self._put(f"/v1/specializations/{self.specialization}", {"name": "Player", "levels": levels})
        lessons = [{"lessonId": f"l{n}", "title": f"Lesson {n}", "xp": LESSON_XP} for n in range(LESSONS)]
        module = {"moduleId": self.course, "title": "All", "lessons": lessons}
        course = {"title": "Course", "specialization": self.specialization, "modules": [module]}
        await self._put(f"/v1/courses/{self.course}", course)
        self._workers = [asyncio.create_task(self._work(number)) for number in range(WORKERS)]

    async def end(self) -> None:
        """Let the learners under way come to the end of their day."""
        self._stopping = True
        await asyncio.gather(*self._workers)

    async def _work(self, worker: int) -> None:
        number = 0
        while not self._stopping:
            number += 1
            user = f"{self._prefix}-{worker}-{number}"
            await _Day(self, user).run()
            self.learners.append(user)

    async def _put(self, path: str, body: Mapping[str, Any]) -> None:
        answer = await self._http.admin("PUT", path, json=body)
        assert answer.status == 200, answer.text

    async def ask(
        self,
        method: str,
        path: str,
        *,
        user: str,
        expected: int = 200,
        json: Mapping[str, Any] | None = None,
        key: str | None = None,
        admin: bool = False,
    ) -> Answer | None:
        """The final answer; None, and a surprise, if it is not the one expected."""
        await asyncio.sleep(random.uniform(0, 2 * WORKERS / REQUESTS_PER_SECOND))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await self._send(method, path, user=user, json=json, key=key, admin=admin)
                refused = answer is not None and answer.status >= 400
                reason = answer.body.get("reason", "") if refused and answer.body else ""
                self.statuses[f"{answer.status} {reason}".strip() if answer is not None else "none"] += 1
                if answer is not None and answer.status == 503 and "retry-after" not in answer.headers:
                    self.surprises.append(f"{user} {method} {path}: 503 without Retry-After")
                if answer is None or answer.status in {503, 504}:
                    await asyncio.sleep(random.uniform(0.05, 0.4))
                elif reason == "REQUEST_ABORTED" and key is not None:
                    key = f"{key}-again"
                else:
                    break
        self.answered += 1
        if answer.status == expected:
            return answer
        self.surprises.append(f"{user} {method} {path} {key}: {answer.text}")
        return None

    async def _send(
        self,
        method: str,
        path: str,
        *,
        user: str,
        json: Mapping[str, Any] | None,
        key: str | None,
        admin: bool,
    ) -> Answer | None:
        sender, roles = ("root", ("admin",)) if admin else (user, ("learner",))
        try:
            return await self._http.send(method, path, user=sender, roles=roles, json=json, key=key)
        except (aiohttp.ClientError, TimeoutError):
            return None


class _Day:
    """One learner's day; it ends at the first surprise."""

    def __init__(self, load: MixedLoad, user: str) -> None:
        self._load = load
        self._user = user

    async def run(self) -> None:
        user, load = self._user, self._load
        account = f"/v1/accounts/{user}"
        body = {"email": f"{user}@example.org", "displayName": user, "emailVerified": True}
        await load.ask("PUT", account, user=user, json=body, admin=True)
        grant = {"amount": CREDITS, "reason": "welcome"}
        await load.ask("POST", f"{account}/credits", user=user, json=grant, key=f"{user}-grant", admin=True)
        await self._session(load.tests[0], "a", answers=("2", "4"), end="complete")
        await load.ask(
            "POST", f"/v1/courses/{load.course}/enrollment", user=user, json={}, key=f"{user}-enroll"
        )
        await self._lesson(0)
        await self._lesson(1)
        # The unit of a session without an answer is there again for the start that follows at once.
        await self._session(load.tests[1], "b", answers=(), end="abandon")
        await self._session(load.tests[1], "c", answers=("wrong",), end="abandon")
        for number in range(2, LESSONS):
            await self._lesson(number)
        await self._session(load.tests[2], "d", answers=("2", "wrong"), end="complete")
        start = {"testId": load.tests[3]}
        await load.ask("POST", "/v1/sessions", user=user, json=start, key="e-start", expected=429)
        await load.ask("GET", "/v1/sessions?pageSize=3", user=user)
        await load.ask("GET", "/v1/entitlements", user=user)
        await load.ask("GET", "/v1/credits/entries", user=user)
        await load.ask("GET", "/v1/stats", user=user)

    async def _lesson(self, number: int) -> None:
        """Complete a lesson, and look whether the next one is open: not before, not later."""
        user, load = self._user, self._load
        path = f"/v1/lessons/{load.course}/l"
        if number + 1 < LESSONS:
            early, key = f"{path}{number + 1}:complete", f"{user}-early-{number}"
            await load.ask("POST", early, user=user, json={}, key=key, expected=403)
        done = await load.ask(
            "POST", f"{path}{number}:complete", user=user, json={}, key=f"{user}-lesson-{number}"
        )
        if done is None:
            return
        if done.body["xpAwarded"] != LESSON_XP:
            load.surprises.append(f"{user} lesson {number}: {done.text}")
        if number + 1 < LESSONS:
            version = done.body["version"]
            access = await load.ask("GET", f"{path}{number + 1}/access?minVersion={version}", user=user)
            if access is not None and not access.body["accessible"]:
                load.surprises.append(f"{user} lesson {number + 1}: {access.text}")

    async def _session(self, test: str, name: str, *, answers: tuple[str, ...], end: str) -> None:
        user, load = self._user, self._load
        start = {"testId": test}
        started = await load.ask(
            "POST", "/v1/sessions", user=user, json=start, key=f"{name}-start", expected=201
        )
        if started is None:
            return
        path = f"/v1/sessions/{started.body['sessionId']}"
        for number, choice in enumerate(answers, start=1):
            body = {"questionId": f"q{number}", "choice": choice}
            await load.ask("POST", f"{path}/answers", user=user, json=body, key=f"{name}-{number}")
        await load.ask("POST", f"{path}:{end}", user=user, json={}, key=f"{name}-{end}")


async def wrong_days(http: HttpClient, load: MixedLoad) -> list[str]:
    """The learners whose totals are not those of their day."""
    turns = asyncio.Semaphore(WORKERS)

    async def wrong(user: str) -> str:
        async with turns:
            entitlements, stats = await http.entitlements(user), await http.stats(user)
            listed = await http.send("GET", "/v1/sessions", user=user)
            levels = await http.send("GET", "/v1/specializations/progress", user=user)
            licenses = await http.send("GET", "/v1/licenses", user=user)
        states = Counter(session["state"] for session in listed.body["sessions"])
        left = CREDITS - SPENT * PRICE
        found = (
            (entitlements["tests"]["used"], entitlements["tests"]["held"]),
            (entitlements["credits"]["balance"], entitlements["credits"]["held"]),
            (stats["completedSessions"], stats["answers"], stats["correct"]),
            dict(states),
            (stats["enrolled"], stats["completedLessons"], stats["xp"]),
            [(each["xp"], each["level"]) for each in levels.body["specializations"]],
            [each["level"] for each in licenses.body["licenses"]],
        )
        due = (
            (SPENT, 0),
            (left, 0),
            (2, 5, 3),
            {"COMPLETED": 2, "ABANDONED": 2},
            (1, LESSONS, LESSONS * LESSON_XP),
            [(LESSONS * LESSON_XP, max(LEVELS))],
            [max(LEVELS)],
        )
        return "" if found == due else f"{user}: {found} instead of {due}"

    return [each for each in await asyncio.gather(*(wrong(user) for user in load.learners)) if each]
