"""Pages of lists, and the opaque tokens that say behind what the next page begins."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson
from google.protobuf.message import Message

from chassis.batch import Item, Reply
from chassis.errors import FieldViolation, Reason, ServiceError

PAGE_SIZE_DEFAULT = 50

Position = tuple[str | int, ...]
T = TypeVar("T")
M = TypeVar("M", bound=Message)


async def pages(
    batch: Sequence[Item[Any]],
    read: Callable[[Item[Any], int], Awaitable[Sequence[T]]],
    *,
    position: Callable[[T], Position],
    render: Callable[[Sequence[T], str], M],
) -> list[Reply[M] | ServiceError]:
    """A page for each item, all read side by side; what one is refused with is its own outcome.

    `read` gives what is on the page of an item, at most as many as it is told; `position` says where one of
    these is in the list; `render` makes the response from them and the token of the next page.
    """

    async def page(item: Item[Any]) -> Reply[M] | ServiceError:
        limit = item.request.page_size or PAGE_SIZE_DEFAULT
        try:
            found = await read(item, limit)
        except ServiceError as error:
            return error
        return Reply(render(found, _token(position(found[-1])) if len(found) == limit else ""))

    return list(await asyncio.gather(*map(page, batch)))


def read_token(token: str, *kinds: type[str | int]) -> Position | None:
    """The position in a token, one value per kind, or None for the first page.

    Raises:
        ServiceError: INVALID_ARGUMENT, when we have not made this token for this list.
    """
    if not token:
        return None
    try:
        position = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        raise token_refused() from None
    if not isinstance(position, list) or [type(value) for value in position] != list(kinds):
        raise token_refused()
    return tuple(position)


def number_in(token: str) -> int | None:
    """The one number in a token, or None for the first page; raises as `read_token` does."""
    position = read_token(token, int)
    return None if position is None else int(position[0])


def text_in(token: str) -> str:
    """The one text in a token, or an empty one for the first page; raises as `read_token` does."""
    position = read_token(token, str)
    return "" if position is None else str(position[0])


def _token(position: Position) -> str:
    """A token for a position; what is in it is nobody else's business."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def token_refused() -> ServiceError:
    """What is said of a token that we have not made for this list."""
    description = "is not a token of this list"
    return ServiceError(
        Reason.INVALID_ARGUMENT,
        f"pageToken: {description}",
        violations=[FieldViolation("pageToken", description)],
    )
