"""What the gateway answers, and how it is written to a connection."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

JSON = "application/json"
OK = "OK"

Headers = tuple[tuple[str, str], ...]
REPLAYED: Headers = (("Idempotent-Replayed", "true"),)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body, and the headers that not every answer has. `code` is OK or the name of a reason."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Headers = ()
    code: str = OK

    def response(self, *, request_id: str) -> web.Response:
        """What aiohttp sends. Nothing may be cached or guessed at: answers are for one person, and data."""
        return web.Response(
            status=self.status,
            body=self.body,
            headers=CIMultiDict(
                (
                    ("Content-Type", self.content_type),
                    ("X-Request-Id", request_id),
                    ("Cache-Control", "no-store"),
                    ("X-Content-Type-Options", "nosniff"),
                    *self.headers,
                )
            ),
        )
