"""Requests to the gateway as a patient app sends them: again, with the same key, when that can help."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from bench.replay.errors import ReplayError

REQUEST_SECONDS_MAX = 15.0
PATIENCE_SECONDS = 90.0  # longer than a process takes to be started again
BACKOFF_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 2.0
# From someone between us and the gateway, who knows nothing of problems.
STATUSES_WORTH_A_RETRY = frozenset({502, 503, 504})


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
    def problem(self) -> str:
        """A refusal in words."""
        return f"{self.status} {self.body.get('reason', '')} {self.body.get('detail', '')}".strip()


class Caller:
    """An asynchronous context; counts what it had to send again in `retries`."""

    def __init__(
        self, base_url: str, *, connections_max: int, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._base_url = base_url
        self._connections_max = connections_max
        self._patience_seconds = patience_seconds
        self._session: aiohttp.ClientSession
        self.retries = 0

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
        """The final answer: retryable problems and silence are met by sending again, with the same key.

        Raises ReplayError when our patience ends first.
        """
        headers = {"Authorization": f"Bearer {token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        give_up_at = time.monotonic() + self._patience_seconds
        attempt = 0
        while True:
            attempt += 1
            pause = 0.0
            try:
                async with self._session.request(
                    method, path, json=body, headers=headers, params=params
                ) as answer:
                    raw = await answer.read()
                    response = _response(answer, raw)
                    if not _worth_a_retry(response):
                        return response
                    trouble = response.problem
                    pause = _retry_after_seconds(answer)
            except (aiohttp.ClientError, TimeoutError) as error:
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
    """What Retry-After asks for, in seconds; its other form, a date, is nothing Homeroom sends."""
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
