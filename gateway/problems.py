"""Refusals as RFC 9457 problems: only here a ServiceError becomes an HTTP answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

from chassis.errors import Reason, ServiceError
from chassis.rpc.reasons import CODES
from gateway.answers import Answer, Headers

CONTENT_TYPE = "application/problem+json"
# A path of this API, not a URL of another owner. RFC 9457, 3.1.1 recommends a full path.
PROBLEMS_PATH = "/problems"
# The name of a field may contain a key of a map, which may be as long as the whole body.
FIELD_LENGTH_MAX = 300
DETAIL_LENGTH_MAX = 1000

_RETRY_AFTER_SECONDS = {Reason.OVERLOADED: 1.0, Reason.UNAVAILABLE: 1.0, Reason.RATE_LIMITED: 1.0}


class HttpRefusal(ServiceError):  # noqa: N818 — a refusal, as its base is
    """A refusal with a header that HTTP requires, such as `Allow` or `WWW-Authenticate`."""

    def __init__(self, reason: Reason, detail: str, *, headers: Headers) -> None:
        super().__init__(reason, detail)
        self.headers = headers


def type_of(reason: Reason) -> str:
    """The `type` of a problem: the path of the page that explains the reason."""
    return f"{PROBLEMS_PATH}/{reason.name.lower().replace('_', '-')}"


def problem(error: ServiceError, *, instance: str, request_id: str) -> Answer:
    """The HTTP answer for a refusal: its reason, its detail, and its metadata as members."""
    reason = error.reason
    members: dict[str, Any] = {
        "type": type_of(reason),
        "title": reason.title,
        "status": CODES[reason].http,
        "detail": _shortened(error.detail, DETAIL_LENGTH_MAX),
        "instance": instance,
        "reason": reason.name,
        "requestId": request_id,
        "retryable": reason.retryable,
    }
    if error.violations:
        members["errors"] = [
            {"field": _shortened(violation.field, FIELD_LENGTH_MAX), "description": violation.description}
            for violation in error.violations
        ]
    for name, value in error.metadata.items():
        members.setdefault(name, value)
    headers = error.headers if isinstance(error, HttpRefusal) else ()
    seconds = error.retry_after_seconds or _RETRY_AFTER_SECONDS.get(reason)
    if seconds is not None:
        headers += (("Retry-After", str(max(1, math.ceil(seconds)))),)
    return Answer(
        status=CODES[reason].http,
        body=_json(members),
        content_type=CONTENT_TYPE,
        headers=headers,
        code=reason.name,
    )


def _shortened(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else text[: length_max - 1] + "…"


def _json(members: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(members)
    except TypeError:  # a field's name has half a surrogate pair: strict JSON readers refuse its escape
        return json.dumps(members, ensure_ascii=False).encode(errors="replace")
