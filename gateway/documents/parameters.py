"""The headers of `/openapi.json`: those that requests may have, and those of the answers."""

from __future__ import annotations

from typing import Any

from chassis.rpc.methods import Method
from gateway.keys import IDEMPOTENCY_KEY, LENGTH_MAX
from gateway.request_headers import (
    IF_MATCH,
    LAST_EVENT_ID,
    REQUEST_ID,
    REQUEST_TIMEOUT,
    TIMEOUT_SECONDS_DEFAULT,
    TIMEOUT_SECONDS_MAX,
    TIMEOUT_SECONDS_MIN,
    TIMEOUT_SECONDS_PATTERN,
)

_PARAMETERS = "#/components/parameters/"
_HEADERS = "#/components/headers/"


def _reference(prefix: str, name: str) -> dict[str, str]:
    return {"$ref": prefix + name}


IDEMPOTENCY_KEY_PARAMETER = _reference(_PARAMETERS, IDEMPOTENCY_KEY)
IF_MATCH_PARAMETER = _reference(_PARAMETERS, IF_MATCH)
LAST_EVENT_ID_PARAMETER = _reference(_PARAMETERS, LAST_EVENT_ID)
REQUEST_TIMEOUT_PARAMETER = _reference(_PARAMETERS, REQUEST_TIMEOUT)
REQUEST_ID_PARAMETER = _reference(_PARAMETERS, REQUEST_ID)

PARAMETERS: dict[str, dict[str, Any]] = {
    IDEMPOTENCY_KEY: {
        "name": IDEMPOTENCY_KEY,
        "in": "header",
        "required": True,
        "description": (
            "Names one action of the caller. Every retry of it has the same key, and gets the same answer "
            "(draft-ietf-httpapi-idempotency-key-header). With or without quotes."
        ),
        "schema": {"type": "string", "minLength": 1, "maxLength": LENGTH_MAX, "pattern": r"^[!#-\[\]-~]+$"},
        "example": "6e2c8a2b-0f5e-4a53-a6fd-0d4f3b9f6a11",
    },
    IF_MATCH: {
        "name": IF_MATCH,
        "in": "header",
        "description": (
            "The `ETag` of the document that the caller has seen. If the document has another version by "
            "now, the answer is 412 `VERSION_MISMATCH`. `*` stands for any version."
        ),
        "schema": {"type": "string", "pattern": r'^(\*|"[0-9]{1,9}")$'},
    },
    LAST_EVENT_ID: {
        "name": LAST_EVENT_ID,
        "in": "header",
        "description": (
            "The `id` of the last event that the client has seen; the stream goes on after it. "
            "It takes the place of the query parameter with the same meaning."
        ),
        "schema": {"type": "string"},
    },
    REQUEST_TIMEOUT: {
        "name": REQUEST_TIMEOUT,
        "in": "header",
        "description": (
            "How many seconds the caller waits for the answer, of a stream for its first event: "
            f"{TIMEOUT_SECONDS_MIN:g} to {TIMEOUT_SECONDS_MAX:g}, {TIMEOUT_SECONDS_DEFAULT:g} without this "
            "header. "
            "When the time is over, the answer is 504 `DEADLINE_EXCEEDED`."
        ),
        "schema": {"type": "string", "pattern": f"^({TIMEOUT_SECONDS_PATTERN})$"},
        "example": "5",
    },
    REQUEST_ID: {
        "name": REQUEST_ID,
        "in": "header",
        "description": (
            "An id for the logs; the answer returns it. The gateway makes one if it is absent or not valid."
        ),
        "schema": {"type": "string"},
    },
}
HEADERS: dict[str, dict[str, Any]] = {
    REQUEST_ID: {
        "description": "The id of the request, as in the logs and in a problem.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "`true` if this is the stored answer to an earlier request with the same key.",
        "schema": {"const": "true"},
    },
    "ETag": {
        "description": "The version of the document, for `If-Match`.",
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'Of `text/csv`: the next page, `rel="next"` (RFC 8288). The last one has none.',
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The quotas: `q` requests in `w` seconds (draft-ietf-httpapi-ratelimit-headers-10).",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "`r` requests are left now; the whole quota is back in `t` seconds.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "The least number of seconds to wait before another try.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "The challenge of RFC 6750.", "schema": {"type": "string"}},
}
_WITH_RETRY_AFTER = frozenset({429, 503})
_UNAUTHENTICATED = 401


def headers_of_success(method: Method) -> dict[str, Any]:
    """The headers of a success."""
    names = [
        REQUEST_ID,
        *(["Idempotent-Replayed"] if method.key_required else ()),
        *(["ETag"] if method.etag else ()),
        *(["Link"] if method.csv_of else ()),
        "RateLimit-Policy",
        "RateLimit",
    ]
    return {name: _reference(_HEADERS, name) for name in names}


def headers_of_problem(status: int) -> dict[str, Any]:
    """The headers of a problem with this status."""
    names = [REQUEST_ID]
    if status in _WITH_RETRY_AFTER:
        names.append("Retry-After")
    if status == _UNAUTHENTICATED:
        names.append("WWW-Authenticate")
    return {name: _reference(_HEADERS, name) for name in names}
