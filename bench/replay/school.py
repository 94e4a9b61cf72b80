"""What the log needs before it can be played: one test with all questions, and an account per learner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from bench.replay.caller import Caller
from bench.replay.errors import ReplayError
from bench.replay.log import LoggedLearner, PracticeLog
from homeroom.supervisor import together

TEST_ID = "practice-log"
PLAN_ID = "unlimited"
XP_PER_SESSION = 10
ADMINISTRATOR = "replay-admin"


class School:
    """Creates what the play needs; a second time changes nothing. Raises ReplayError if it is refused."""

    def __init__(self, caller: Caller, *, admin_token: str) -> None:
        self._caller = caller
        self._token = admin_token

    async def import_test(self, log: PracticeLog) -> None:
        """Create one test with all questions of the log."""
        await self._want(
            "PUT",
            f"/v1/tests/{TEST_ID}",
            {
                "title": "Statistics practice, autumn 2015",
                "kind": "PRACTICE",
                "questionCount": len(log.questions),
                "countsTowardDailyLimit": True,
                "xp": XP_PER_SESSION,
            },
        )
        counts = await self._want(
            "POST",
            f"/v1/tests/{TEST_ID}/questions:import",
            {
                "questions": [
                    {name: question[name] for name in ("questionId", "prompt", "choices", "accepted")}
                    for question in log.questions
                ]
            },
        )
        if counts["total"] != len(log.questions):
            raise ReplayError(
                f"the test {TEST_ID} has {counts['total']} questions, the log {len(log.questions)}: "
                "play it on a stack that has not seen another log"
            )

    async def open_accounts(self, log: PracticeLog, *, at_once: int, advance: Callable[[], None]) -> None:
        """Create an account without a daily limit for each learner; `advance` is called after each."""
        turns = asyncio.Semaphore(at_once)

        async def open_account(learner: LoggedLearner) -> None:
            async with turns:
                account = f"/v1/accounts/{learner.name}"
                await self._want(
                    "PUT",
                    account,
                    {
                        "email": f"{learner.name}@practice-log.example",
                        "displayName": learner.name,
                        "emailVerified": True,
                    },
                )
                await self._want(
                    "POST",
                    f"{account}/subscription",
                    {"planId": PLAN_ID, "status": "ACTIVE"},
                    key=f"{TEST_ID}-{learner.name}-subscription",
                )
                advance()

        await together(*(open_account(learner) for learner in log.learners))

    async def _want(
        self, method: str, path: str, body: Mapping[str, Any], *, key: str | None = None
    ) -> Mapping[str, Any]:
        response = await self._caller.send(method, path, token=self._token, body=body, key=key)
        if not response.ok:
            raise ReplayError(f"{method} {path} was refused: {response.problem}")
        return response.body
