"""The form of a cached value: version, time and signature in front of the body.

The signature covers the key, so a value that stands under another key, that was cut off, or that somebody
else wrote is not believed. Version and time are decimal, because the script in Redis compares them.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SIGNATURE_BYTES = 16


class CachedValue(NamedTuple):
    """A body as it was in the database at `read_at`, by the database's clock, with the version of then."""

    version: int
    read_at: datetime
    body: bytes


class Signer:
    """Writes values, and reads those that a signer with the same secret wrote for the same key."""

    def __init__(self, *, secret: str) -> None:
        self._key = hashlib.blake2b(secret.encode(), person=b"homeroom cache", digest_size=32).digest()

    def encode(self, key: str, value: CachedValue) -> bytes:
        """The value as it is stored."""
        head = b"%d %d" % (value.version, microseconds(value.read_at))
        return b" ".join((head, self._signature(key, head, value.body), value.body))

    def decode(self, key: str, stored: bytes) -> CachedValue | None:
        """The value; None if it is not one of ours for this key."""
        try:
            version, written_at, signature, body = stored.split(b" ", 3)
            if not hmac.compare_digest(signature, self._signature(key, version + b" " + written_at, body)):
                return None
            return CachedValue(int(version), _EPOCH + int(written_at) * _MICROSECOND, body)
        except (ValueError, OverflowError):
            return None

    def _signature(self, key: str, head: bytes, body: bytes) -> bytes:
        name = key.encode()
        signed = b"%d %b%d %b%b" % (len(name), name, len(head), head, body)
        return hashlib.blake2b(signed, key=self._key, digest_size=_SIGNATURE_BYTES).hexdigest().encode()


def microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
