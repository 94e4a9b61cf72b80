"""Refusals as RFC 9457 problems: one place where a ServiceError becomes HTTP."""

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
# Relative to the API that answers (RFC 9457, 3.1.1: then with its full path), so that no one else's
# domain has to keep our word.
TYPE_PREFIX = "/problems/"

_RETRY_AFTER_SECONDS = {Reason.OVERLOADED: 1.0, Reason.UNAVAILABLE: 1.0, Reason.RATE_LIMITED: 1.0}


class HttpRefusal(ServiceError):  # noqa: N818 — a refusal, as its base is
    """A refusal that HTTP wants a header with, such as `Allow` or `WWW-Authenticate`."""

    def __init__(self, reason: Reason, detail: str, *, headers: Headers) -> None:
        super().__init__(reason, detail)
        self.headers = headers


def problem(error: ServiceError, *, instance: str, request_id: str) -> Answer:
    """The registry's words, this occurrence, and the error's metadata as members of their own."""
    reason = error.reason
    told: dict[str, Any] = {
        "type": TYPE_PREFIX + reason.name.lower().replace("_", "-"),
        "title": reason.title,
        "status": CODES[reason].http,
        "detail": error.detail,
        "instance": instance,
        "reason": reason.name,
        "requestId": request_id,
        "retryable": reason.retryable,
    }
    if error.violations:
        told["errors"] = [
            {"field": violation.field, "description": violation.description} for violation in error.violations
        ]
    for name, value in error.metadata.items():
        told.setdefault(name, value)
    headers = error.headers if isinstance(error, HttpRefusal) else ()
    seconds = error.retry_after_seconds or _RETRY_AFTER_SECONDS.get(reason)
    if seconds is not None:
        headers += (("Retry-After", str(max(1, math.ceil(seconds)))),)
    return Answer(
        status=CODES[reason].http,
        body=_json(told),
        content_type=CONTENT_TYPE,
        headers=headers,
        code=reason.name,
    )


def _json(told: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(told)
    except TypeError:  # half a surrogate pair, sent back as it came in a field's name
        return json.dumps(told).encode("ascii")
