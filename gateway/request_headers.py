"""Reads the headers of a request: its id, its time limit, and the type of its body."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from chassis.errors import Reason, ServiceError, invalid_field

AUTHORIZATION = "Authorization"
CONTENT_ENCODING = "Content-Encoding"
CONTENT_TYPE = "Content-Type"
IF_MATCH = "If-Match"
LAST_EVENT_ID = "Last-Event-ID"
REQUEST_ID = "X-Request-Id"
REQUEST_TIMEOUT = "Request-Timeout"
TRACEPARENT = "traceparent"
TIMEOUT_SECONDS_DEFAULT = 10.0
# A service refuses a request with less than 0.1 s left, so a much shorter timeout could never succeed.
TIMEOUT_SECONDS_MIN = 0.5
TIMEOUT_SECONDS_MAX = 60.0

# RFC 9110, 8.8.3. A weak ETag never matches.
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
_VERSION = re.compile(r'"([1-9][0-9]{0,8})"')
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
# Exactly the numbers from the least to the largest timeout, with at most six digits after the point.
TIMEOUT_SECONDS_PATTERN = r"0\.[5-9][0-9]{0,5}|([1-9]|[1-5][0-9])(\.[0-9]{1,6})?|60(\.0{1,6})?"
_SECONDS = re.compile(TIMEOUT_SECONDS_PATTERN)
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json", re.IGNORECASE)
_UTF8_CHARSET = re.compile(r'\s*(?:charset\s*=\s*"?utf-?8"?\s*)?', re.IGNORECASE)


def request_id_of(given: str | None) -> str:
    """The client's own id if it is well-formed, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"{random.getrandbits(128):032x}"


def timeout_seconds_of(given: str | None) -> float:
    """The client's timeout, or the default.

    Raises:
        ServiceError: INVALID_ARGUMENT that names the header.
    """
    if given is None:
        return TIMEOUT_SECONDS_DEFAULT
    if not _SECONDS.fullmatch(given):
        raise invalid_field(
            REQUEST_TIMEOUT,
            f"must be a number of seconds from {TIMEOUT_SECONDS_MIN:g} to {TIMEOUT_SECONDS_MAX:g}",
        )
    return float(given)


def version_of(if_match: Sequence[str], *, supported: bool) -> int | None:
    """The version that `If-Match` names; None for any. Our ETags are versions in quotes, such as "7".

    Args:
        if_match: the values of all these headers.
        supported: whether the operation compares versions.

    Raises:
        ServiceError: INVALID_ARGUMENT that names the header, or VERSION_MISMATCH for an ETag of no version.
    """
    if not if_match:
        return None
    if not supported:  # to ignore it would do what the caller has forbidden
        raise invalid_field(IF_MATCH, "is not supported by this operation")
    tag = if_match[0].strip()
    if tag == "*" and len(if_match) == 1:
        return None
    if len(if_match) > 1 or not _ETAG.fullmatch(tag):
        raise invalid_field(IF_MATCH, 'must be one ETag in quotes, such as "7", or *')
    version = _VERSION.fullmatch(tag)
    if version is None:
        raise ServiceError(Reason.VERSION_MISMATCH)
    return int(version[1])


def last_event_id_of(given: Sequence[str]) -> str:
    """The id of the last event that the client has seen; empty for none. `given` are all these headers.

    Raises:
        ServiceError: INVALID_ARGUMENT that names the header.
    """
    if len(given) > 1:
        raise invalid_field(LAST_EVENT_ID, "must be sent once")
    return given[0].strip() if given else ""


def check_content_type(given: str | None, *, text_allowed: bool = False) -> None:
    """Accepts only JSON in UTF-8, with `text_allowed` also as text/plain; call it for a request with a body.

    Raises:
        ServiceError: UNSUPPORTED_MEDIA_TYPE.
    """
    if given == "application/json":
        return
    media_type, _, parameters = (given or "").partition(";")
    media_type = media_type.strip()
    known = _JSON_TYPE.fullmatch(media_type) or (text_allowed and media_type.lower() == "text/plain")
    if not known or not _UTF8_CHARSET.fullmatch(parameters):
        raise ServiceError(
            Reason.UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json, in UTF-8"
        )


def check_content_encoding(given: str | None) -> None:
    """Refuses compressed bodies: they could decompress to any size.

    Raises:
        ServiceError: UNSUPPORTED_MEDIA_TYPE.
    """
    if given is not None and given.strip().lower() not in {"", "identity"}:
        raise ServiceError(Reason.UNSUPPORTED_MEDIA_TYPE, "Send the body without Content-Encoding")
