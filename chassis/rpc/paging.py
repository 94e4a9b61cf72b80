"""Pages of lists, and the one kind of token that says behind which row the next page begins."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import orjson

from chassis.errors import ServiceError, invalid_field

PAGE_SIZE_DEFAULT = 50
TOKEN_LENGTH_MAX = 1000  # as in the contract
_SEAL_BYTES = 12

Position: TypeAlias = tuple[str | int, ...]
"""Where a row is in its list: the values that the list is ordered by."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows are wanted: up to `limit`, behind the position `after` (None: from the beginning)."""

    after: Position | None
    limit: int


class PageTokens:
    """Writes and reads page tokens: a position, and a seal that nobody makes without the secret.

    A token is good for the list that it was written for, and for no other. So a list need not fear what a
    stranger may write into it.

    Args:
        secret: what the processes of one deployment share.
    """

    def __init__(self, *, secret: str) -> None:
        self._key = blake2b(secret.encode(), digest_size=32, person=b"homeroom-pages").digest()

    def write(self, list_name: str, position: Position) -> str:
        """The token of a position in a list; URL-safe."""
        payload = orjson.dumps(position)
        return base64.urlsafe_b64encode(self._seal(list_name, payload) + payload).decode().rstrip("=")

    def read(self, list_name: str, token: str) -> Position | None:
        """The position in a token; None for an empty one, which asks for the first page.

        Raises:
            ServiceError: INVALID_ARGUMENT, when the token was not written here for this list.
        """
        if not token:
            return None
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            raise _refused() from None
        seal, payload = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(list_name, payload)):
            raise _refused()
        return tuple(orjson.loads(payload))

    def _seal(self, list_name: str, payload: bytes) -> bytes:
        digest = blake2b(list_name.encode(), key=self._key, digest_size=_SEAL_BYTES)
        digest.update(b"\0")
        digest.update(payload)
        return digest.digest()


def _refused() -> ServiceError:
    return invalid_field("pageToken", "is not a token of this list")
