"""Pages of lists: opaque tokens that say behind what the next page begins."""

from __future__ import annotations

import base64
import binascii

import orjson

from chassis.errors import FieldViolation, Reason, ServiceError

PAGE_SIZE_DEFAULT = 50


def page_size(asked: int) -> int:
    return asked or PAGE_SIZE_DEFAULT


def make_token(*position: str | int) -> str:
    """A token for a position; what is in it is nobody else's business."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def read_token(token: str, *kinds: type[str | int]) -> tuple[str | int, ...] | None:
    """The position in a token, one value per kind, or None for the first page.

    Raises:
        ServiceError: INVALID_ARGUMENT, when we have not made this token for this list.
    """
    if not token:
        return None
    try:
        position = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        raise _refusal() from None
    if not isinstance(position, list) or [type(value) for value in position] != list(kinds):
        raise _refusal()
    return tuple(position)


def number_in(token: str) -> int | None:
    """The one number in a token, or None for the first page; raises as `read_token` does."""
    position = read_token(token, int)
    return None if position is None else int(position[0])


def text_in(token: str) -> str:
    """The one text in a token, or an empty one for the first page; raises as `read_token` does."""
    position = read_token(token, str)
    return "" if position is None else str(position[0])


def _refusal() -> ServiceError:
    description = "is not a token of this list"
    return ServiceError(
        Reason.INVALID_ARGUMENT,
        f"pageToken: {description}",
        violations=[FieldViolation("pageToken", description)],
    )
