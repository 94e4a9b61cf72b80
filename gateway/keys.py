"""The rules of the `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from chassis.errors import Reason, ServiceError, invalid_field

IDEMPOTENCY_KEY = "Idempotency-Key"
LENGTH_MAX = 255

_KEY = re.compile(rf"[\x21-\x7e]{{1,{LENGTH_MAX}}}")
# The draft requires a string of RFC 8941: in quotes, with a backslash before each inner quote or backslash.
_QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPED = re.compile(r"\\(.)")
# Nearly all keys are in quotes and have nothing to unescape: this takes a tenth of the time.
_SIMPLY_QUOTED = re.compile(rf'"([\x21\x23-\x5b\x5d-\x7e]{{1,{LENGTH_MAX}}})"')


def idempotency_key(values: Sequence[str]) -> str:
    """The key in the header; `"k1"` and `k1` are the same key.

    Raises:
        ServiceError: IDEMPOTENCY_KEY_MISSING, or INVALID_ARGUMENT that names the header.
    """
    if not values:
        raise ServiceError(Reason.IDEMPOTENCY_KEY_MISSING)
    key = values[0]
    if len(values) > 1:
        raise invalid_field(IDEMPOTENCY_KEY, "must be given once")
    simple = _SIMPLY_QUOTED.fullmatch(key)
    if simple is not None:
        return simple[1]
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        if quoted is None:
            raise invalid_field(
                IDEMPOTENCY_KEY, 'begins with a quote but is not a string in quotes, as in "k1"'
            )
        key = _ESCAPED.sub(r"\1", quoted[1])
    if not _KEY.fullmatch(key):
        raise invalid_field(
            IDEMPOTENCY_KEY,
            f"must be 1 to {LENGTH_MAX} visible ASCII characters, with or without quotes around them",
        )
    return key
