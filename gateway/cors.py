"""Cross-origin requests (the Fetch standard): which web pages may call from a browser. By default none."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.documents.parameters import HEADERS
from gateway.keys import IDEMPOTENCY_KEY
from gateway.request_headers import IF_MATCH, LAST_EVENT_ID, REQUEST_ID, REQUEST_TIMEOUT

PREFLIGHT_SECONDS = 600

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
_REQUEST_HEADERS = (
    *("Authorization", "Content-Type", IDEMPOTENCY_KEY, IF_MATCH, "If-None-Match", LAST_EVENT_ID),
    *(REQUEST_TIMEOUT, REQUEST_ID, "traceparent"),
)
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"


class Cors:
    """The header lines for web pages of the configured origins.

    Credentials are never allowed: a token is a header that a page sets itself, and there are no cookies.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        exposed = ", ".join(HEADERS)
        self._lines = {
            origin: f"Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: {exposed}\r\n"
            for origin in origins
        }
        self.enabled = bool(self._lines)
        self._preflight = (
            f"Access-Control-Allow-Methods: {_METHODS}\r\n"
            f"Access-Control-Allow-Headers: {', '.join(_REQUEST_HEADERS)}\r\n"
            f"Access-Control-Max-Age: {PREFLIGHT_SECONDS}\r\n"
        )

    def lines(self, origin: str, *, preflight: bool) -> str:
        """The lines of an answer to this origin. Caches must tell origins apart, also those that get none."""
        allowed = self._lines.get(origin, "")
        if allowed and preflight:
            allowed += self._preflight
        return f"Vary: Origin\r\n{allowed}"


def check_origins(origins: Iterable[str]) -> str | None:
    """What is wrong with a list of origins, or None: for `rules(check=...)`."""
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            return f"{origin!r} is not an origin in lower case, such as https://app.example.org"
    return None
