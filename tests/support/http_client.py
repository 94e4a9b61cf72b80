"""The app's side of the HTTP API: learners who start, answer and finish, and who retry with the same key."""

from __future__ import annotations

import asyncio
import io
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

RETRY_STATUSES = frozenset({502, 503, 504})
_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    """A name that no other test of this run uses."""
    return f"{prefix}-{next(_numbers)}-{random.randrange(10**9):09d}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    text: str
    headers: dict[str, str]

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"

    @property
    def final(self) -> bool:
        """False if it says to come again: nothing was done, or nobody knows yet."""
        if self.status == 429:  # too many at once, but not a day's limit
            return self.body["reason"] != "RATE_LIMITED"
        return self.status not in RETRY_STATUSES


class HttpClient:
    """Calls a stack's gateway as any user; `statuses` counts what it answered.

    A 500 is a bug, whatever else a test is about: the test that gets one fails.

    Args:
        base_url: of the gateway.
        token: makes a bearer token for a user and roles.
    """

    def __init__(self, *, base_url: str, token: Callable[..., str]) -> None:
        self._base_url = base_url
        self._token = token
        self.statuses: Counter[int] = Counter()
        self._tokens: dict[tuple[str, tuple[str, ...]], str] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=30)
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(
        self,
        method: str,
        path: str,
        *,
        user: str | None,
        roles: Iterable[str] = ("learner",),
        json: Any = None,
        data: bytes | None = None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Sends once.

        Raises:
            aiohttp.ClientError: nobody answered.
            AssertionError: the answer was a 500.
        """
        sent = dict(headers or {})
        if user is not None:
            sent["Authorization"] = f"Bearer {self._bearer(user, tuple(roles))}"
        if key is not None:
            sent["Idempotency-Key"] = key
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self._session.request(
            method,
            self._base_url + path,
            json=json,
            data=None if data is None else io.BytesIO(data),  # aiohttp warns of large plain bytes
            headers=sent,
        ) as response:
            streams = response.content_type == "text/event-stream"
            text = "" if streams else await response.text()  # the client leaves a stream after its headers
            self.statuses[response.status] += 1
            assert response.status != 500, f"{method} {path}: {text}"
            is_json = "json" in response.headers.get("Content-Type", "")
            return Answer(
                status=response.status,
                body=await response.json(content_type=None) if is_json and text else None,
                text=text,
                headers={name.lower(): value for name, value in response.headers.items()},
            )

    async def send_until_answered(
        self, method: str, path: str, *, seconds: float = 60, **options: Any
    ) -> Answer:
        """Sends again, with the same key, until the answer is final."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    answer = await self.send(method, path, **options)
                except (aiohttp.ClientError, TimeoutError):
                    pass
                else:
                    if answer.final:
                        return answer
                await asyncio.sleep(random.uniform(0.05, 0.25))

    async def put_account(self, user: str, *, plan: str | None = None, **fields: Any) -> None:
        body = {"email": f"{user}@example.org", "displayName": user, "emailVerified": True, **fields}
        answer = await self.admin("PUT", f"/v1/accounts/{user}", json=body)
        assert answer.status == 200, answer.text
        if plan is not None:
            answer = await self.admin(
                "POST",
                f"/v1/accounts/{user}/subscription",
                json={"planId": plan, "status": "ACTIVE"},
                key=unique("subscribe"),
            )
            assert answer.status == 200, answer.text

    async def put_plan(self, plan: str, *, daily_test_limit: int | None) -> None:
        body: dict[str, Any] = {"name": plan}
        if daily_test_limit is not None:
            body["dailyTestLimit"] = daily_test_limit
        answer = await self.admin("PUT", f"/v1/plans/{plan}", json=body)
        assert answer.status == 200, answer.text

    async def put_test(self, test: str, *, questions: int = 0, **fields: Any) -> None:
        body = {
            "title": test,
            "kind": "PRACTICE",
            "countsTowardDailyLimit": True,
            "questionCount": questions,
            **fields,
        }
        answer = await self.admin("PUT", f"/v1/tests/{test}", json=body)
        assert answer.status == 200, answer.text
        if questions:
            imported = [
                {"questionId": f"q{n}", "prompt": f"What is {n} + {n}?", "accepted": [str(2 * n)]}
                for n in range(1, questions + 1)
            ]
            answer = await self.admin(
                "POST", f"/v1/tests/{test}/questions:import", json={"questions": imported}
            )
            assert answer.status == 200, answer.text

    async def start(self, user: str, test: str, *, key: str, **options: Any) -> Answer:
        return await self.send("POST", "/v1/sessions", user=user, json={"testId": test}, key=key, **options)

    async def start_until_answered(self, user: str, test: str, *, key: str) -> Answer:
        return await self.send_until_answered(
            "POST", "/v1/sessions", user=user, json={"testId": test}, key=key
        )

    async def entitlements(self, user: str) -> dict[str, Any]:
        answer = await self.send("GET", "/v1/entitlements", user=user)
        assert answer.status == 200, answer.text
        return answer.body

    async def stats(self, user: str) -> dict[str, Any]:
        answer = await self.send("GET", "/v1/stats", user=user)
        assert answer.status == 200, answer.text
        return answer.body

    async def admin(self, method: str, path: str, **options: Any) -> Answer:
        return await self.send_until_answered(method, path, user="root", roles=("admin",), **options)

    def _bearer(self, user: str, roles: tuple[str, ...]) -> str:
        token = self._tokens.get((user, roles))
        if token is None:
            token = self._tokens[user, roles] = self._token(user, roles)
        return token
