"""Requests to the gateway as a patient app sends them: again, with the same key, if that can help."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from bench.replay.errors import ReplayError

REQUEST_SECONDS_MAX = 15.0
PATIENCE_SECONDS = 90.0  # longer than the restart of a process takes
BACKOFF_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 2.0
# For an answer that is not a problem of Homeroom's: it comes from something between us and the gateway.
STATUSES_WORTH_A_RETRY = frozenset({502, 503, 504})
ABORTED = "REQUEST_ABORTED"
NO_ANSWER = "no answer"
KEYS = uuid.UUID("5e0c1c52-27f4-4d52-8a1b-6b8f0a9d3c11")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that sending again would not change; `body` is its JSON object."""

    status: int
    replayed: bool
    body: Mapping[str, Any]
    digest: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def aborted(self) -> bool:
        """Whether the key was given up by the server: a new one may succeed."""
        return self.status == 409 and self.body.get("reason") == ABORTED

    @property
    def label(self) -> str:
        """The status, and the reason of a refusal."""
        return str(self.status) if self.ok else f"{self.status} {self.body.get('reason', '')}".strip()

    @property
    def problem(self) -> str:
        """A refusal in words."""
        return f"{self.status} {self.body.get('reason', '')} {self.body.get('detail', '')}".strip()


class Caller:
    """An asynchronous context.

    `retries` counts the requests that were sent again; `statuses` counts every answer, by its status and, for
    a refusal, its reason.
    """

    def __init__(
        self, base_url: str, *, connections_max: int, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._base_url = base_url
        self._connections_max = connections_max
        self._patience_seconds = patience_seconds
        self._session: aiohttp.ClientSession
        self.retries = 0
        self.statuses: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._base_url,
            connector=aiohttp.TCPConnector(limit=self._connections_max),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: str,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Response:
        """The final answer. After a retryable problem, or none, the request is sent again with the same key.

        After REQUEST_ABORTED it is sent again with a new key, as README.md says. The new key follows from the
        old one, so that a second play of the log uses the same keys. Raises ReplayError if no final answer
        comes in time.
        """
        headers = {"Authorization": f"Bearer {token}"}
        give_up_at = time.monotonic() + self._patience_seconds
        attempt = 0
        while True:
            attempt += 1
            pause = 0.0
            if key is not None:
                headers["Idempotency-Key"] = key
            try:
                async with self._session.request(
                    method, path, json=body, headers=headers, params=params
                ) as answer:
                    raw = await answer.read()
                    response = _response(answer, raw)
                    self.statuses[response.label] += 1
                    if key is not None and response.aborted:
                        key = str(uuid.uuid5(KEYS, key))
                    elif not _worth_a_retry(response):
                        return response
                    trouble = response.problem
                    pause = _retry_after_seconds(answer)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.statuses[NO_ANSWER] += 1
                trouble = str(error) or type(error).__name__
            pause = max(pause, random.uniform(0, min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS * 2**attempt)))
            if time.monotonic() + pause > give_up_at:
                raise ReplayError(f"{method} {path}: {trouble} (after {attempt} attempts)")
            self.retries += 1
            await asyncio.sleep(pause)


def _response(answer: aiohttp.ClientResponse, raw: bytes) -> Response:
    try:
        parsed = json.loads(raw)
    except ValueError:
        parsed = None
    body = parsed if isinstance(parsed, dict) else {"detail": raw[:200].decode(errors="replace")}
    return Response(
        status=answer.status,
        replayed=answer.headers.get("Idempotent-Replayed") == "true",
        body=body,
        digest=hashlib.blake2b(raw, digest_size=16).hexdigest(),
    )


def _worth_a_retry(response: Response) -> bool:
    if response.ok:
        return False
    told = response.body.get("retryable")
    return told if isinstance(told, bool) else response.status in STATUSES_WORTH_A_RETRY


def _retry_after_seconds(answer: aiohttp.ClientResponse) -> float:
    """The value of Retry-After, in seconds; Homeroom never sends its other form, a date."""
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
