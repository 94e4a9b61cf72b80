"""Removes secrets from logs and from texts that clients see."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

HIDDEN = "***"
_DEPTH_MAX = 6

_SECRET_NAMES = re.compile(
    r"authori[sz]ation|token|password|passwd|passphrase|secret|cookie|credential|private_?key|api_?key|jwt$",
    re.IGNORECASE,
)
_HARMLESS_NAMES = re.compile(r"page_?token$", re.IGNORECASE)  # a position in a list
_URI_PASSWORD = re.compile(
    r"(?P<before>[a-z][a-z0-9+.-]*://[^\s:/@?#\"']*):(?P<password>[^\s/?#\"']*)@", re.IGNORECASE
)
_NAMED_PASSWORD = re.compile(
    r"(?P<before>\b(?:password|passwd|pwd|sslpassword|token|secret)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^\s&;,'\")]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(?P<scheme>bearer|(?<=authorization: )basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[\w-]{4,}\.[\w-]{4,}\.[\w-]*")
_KEY_NAMES = frozenset({"idempotency_key", "idempotency-key", "idempotencykey"})


class Redactor:
    """Hides secrets, by the names of fields and by patterns in texts. Idempotency keys become hashes."""

    def __init__(self, *, hash_secret: str = "") -> None:
        # The hash has a secret, so that nobody can find keys by guessing them. Processes with the same secret
        # write the same hash, so that the logs of all processes show the same key.
        self._hash_key = blake2b(hash_secret.encode(), digest_size=32, person=b"homeroom-logs").digest()

    def hashed(self, key: str) -> str:
        """A short hash of an idempotency key; it is the same in all processes of a deployment."""
        return blake2b(key.encode("utf-8", "replace"), key=self._hash_key, digest_size=8).hexdigest()

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Copy named values without their secrets."""
        return {name: self._named(name, value, 0) for name, value in fields.items()}

    def _named(self, name: object, value: Any, depth: int) -> Any:
        if isinstance(name, str):
            if name.lower() in _KEY_NAMES:
                return self.hashed(str(value)) if value else value
            if value and _SECRET_NAMES.search(name) and not _HARMLESS_NAMES.search(name):
                return HIDDEN
        return self._value(value, depth)

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return redacted(value)
        if isinstance(value, bytes):
            return redacted(value.decode("utf-8", "backslashreplace"))
        if depth >= _DEPTH_MAX:
            return (
                redacted(repr(value))
                if isinstance(value, Mapping | list | tuple | set | frozenset)
                else value
            )
        if isinstance(value, Mapping):
            return {str(name): self._named(name, each, depth + 1) for name, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(each, depth + 1) for each in value]
        return value


def redacted(text: str) -> str:
    """Hide passwords in DSNs and URLs, bearer tokens and JWTs inside a text."""
    if "://" in text:
        text = _URI_PASSWORD.sub(rf"\g<before>:{HIDDEN}@", text)
    if "=" in text:
        text = _NAMED_PASSWORD.sub(rf"\g<before>{HIDDEN}", text)
    text = _BEARER.sub(rf"\g<scheme> {HIDDEN}", text)
    return _JWT.sub(HIDDEN, text)
