"""Reads the headers of a request: its id, its time limit, and the type of its body."""

from __future__ import annotations

import random
import re

from chassis.errors import Reason, ServiceError, invalid_field

REQUEST_ID = "X-Request-Id"
REQUEST_TIMEOUT = "Request-Timeout"
IF_MATCH = "If-Match"
TIMEOUT_SECONDS_DEFAULT = 10.0
# A service refuses a request with less than 0.1 s left, so a much shorter timeout could never succeed.
TIMEOUT_SECONDS_MIN = 0.5
TIMEOUT_SECONDS_MAX = 60.0

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?")
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
    seconds = float(given) if _SECONDS.fullmatch(given) else 0.0
    if not TIMEOUT_SECONDS_MIN <= seconds <= TIMEOUT_SECONDS_MAX:
        raise invalid_field(
            REQUEST_TIMEOUT,
            f"must be a number of seconds from {TIMEOUT_SECONDS_MIN:g} to {TIMEOUT_SECONDS_MAX:g}",
        )
    return seconds


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
