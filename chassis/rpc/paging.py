"""Pages of lists, and page tokens. A token names the row after which the next page begins."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeAlias, TypeVar

import orjson

from chassis.errors import ServiceError, invalid_field

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1000  # the largest that the contract allows: ListOpenHolds; public lists allow 500
# The contract allows 1000 characters, and 2000 where a position has two texts of a client.
TOKEN_CHARACTERS_MAX = 2000
_SEAL_BYTES = 12

V = TypeVar("V")

Position: TypeAlias = tuple[str | int, ...]
"""The position of a row in its list: the values that order the list."""


@dataclass(frozen=True, slots=True)
class Page:
    """The rows that are wanted: at most `limit`, after the position `after` (None: from the beginning)."""

    after: Position | None
    limit: int


@dataclass(frozen=True, slots=True)
class Stretch(Generic[V]):
    """What a bounded search through a list has found: these rows, on its way up to and with `searched_to`.

    A search that stops early returns fewer rows than are wanted, or none, and the next page goes on from
    there. `searched_to` is None when the search has come to the end of the list.
    """

    rows: Sequence[V]
    searched_to: Position | None


class PageTokens:
    """Writes and reads page tokens: a position, authenticated with a secret.

    A token is valid only for the list that it was written for. So an operation only gets positions that this
    class wrote for its own list. When the form of a list's position changes, the list needs a new name.

    Args:
        secret: the secret that the processes of one deployment share.
    """

    def __init__(self, *, secret: str) -> None:
        self._key = blake2b(secret.encode(), digest_size=32, person=b"homeroom-pages").digest()

    def write(self, list_name: str, position: Position) -> str:
        """The URL-safe token of a position in a list.

        Raises:
            ValueError: the token would be longer than the contract allows.
        """
        payload = orjson.dumps(position)
        token = base64.urlsafe_b64encode(self._seal(list_name, payload) + payload).decode().rstrip("=")
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise ValueError(f"a page token of {len(token)} characters")
        return token

    def read(self, list_name: str, token: str) -> Position | None:
        """The position in a token; None for an empty token, which means the first page.

        Raises:
            ServiceError: INVALID_ARGUMENT, when the token was not written for this list with this secret.
        """
        if not token:
            return None
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise _refused()
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except ValueError:  # binascii.Error is a ValueError
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
    return invalid_field("pageToken", "is not a page token of this list")
