"""The one way to serve a method: convert each request, run the operation, render each answer.

A servicer is a list of handlers, made here by `plain`, `keyed`, `paged` and `streamed`. What is wrong with
one request of a batch is that request's outcome alone, whatever raises it: its conversion, the operation, or
the rendering of its answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from google.protobuf.message import Message

from chassis.batch import Item, Outcome, Reply
from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import DataRefused, LockTimeout, OutcomeUnknown
from chassis.postgres.refusals import busy, refusal_of
from chassis.rpc.methods import Method, find_method
from chassis.rpc.paging import PAGE_SIZE_DEFAULT, Page, PageTokens, Position
from chassis.telemetry.logs import get_logger

# A page ends when its rows have reached this size, also before `pageSize`.
PAGE_BYTES_MAX = 1024 * 1024

M = TypeVar("M", bound=Message)
R = TypeVar("R")
V = TypeVar("V")

# Reads a request message into what the operation takes; raises ServiceError for what it finds wrong.
Convert = Callable[[Item[M]], R]
# An outcome for each item, in their order; a refusal that it raises is meant for all of them.
PlainOperation = Callable[[Sequence[Item[R]]], Awaitable[Sequence[V | ServiceError]]]
# The same for keyed mutations. The operation renders the answers itself, and stores them with the keys.
KeyedOperation = Callable[[Sequence[Item[R]], Callable[[V], bytes]], Awaitable[Sequence[Outcome]]]
# The rows of one page: up to `page.limit` of them, behind `page.after`.
PagedOperation = Callable[[Item[R], Page], Awaitable[Sequence[V]]]
# Follows something until it ends.
StreamOperation = Callable[[Item[R]], AsyncIterator[V]]
# The serialized content that these names stand for; see `Reply.content`.
Contents = Callable[[Collection[str]], Awaitable[Mapping[str, bytes]]]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UnaryHandler:
    """Answers a batch of requests to one method: as many outcomes as items, in their order."""

    method: Method
    answer: Callable[[Sequence[Item[Any]]], Awaitable[list[Outcome]]]


@dataclass(frozen=True, slots=True)
class StreamHandler:
    """Answers a single request with a stream of messages."""

    method: Method
    follow: Callable[[Item[Any]], AsyncIterator[Message]]


Handler: TypeAlias = UnaryHandler | StreamHandler


def plain(
    path: str, convert: Convert[M, R], operation: PlainOperation[R, V], render: Callable[[V], Message]
) -> Handler:
    """Serves a unary method that needs no key."""
    method = find_method(path)

    async def answer(items: Sequence[Item[M]]) -> list[Outcome]:
        async def run(converted: Sequence[Item[R]]) -> Sequence[Outcome]:
            values = await operation(converted)
            return [
                value if isinstance(value, ServiceError) else _rendered(method, value, render)
                for value in values
            ]

        return await _answer(method, items, lambda item: item.asking(convert(item)), run)

    return UnaryHandler(method, answer)


def keyed(
    path: str,
    convert: Convert[M, R],
    operation: KeyedOperation[R, V],
    render: Callable[[V], Message],
    *,
    contents: Contents | None = None,
) -> Handler:
    """Serves a unary method that needs a key; its answers are stored, and repeated for the same key.

    `contents` finds what the answers name as their content, to be appended to them: protobuf reads encodings
    that follow each other as one message, merged (protobuf.dev/programming-guides/encoding, "Last One Wins").
    """
    method = find_method(path)

    def with_key(item: Item[M]) -> Item[R]:
        return Item(item.context, convert(item), fingerprint(method.path, item.request))

    def rendered(value: V) -> bytes:
        return render(value).SerializeToString(deterministic=True)

    async def answer(items: Sequence[Item[M]]) -> list[Outcome]:
        outcomes = await _answer(method, items, with_key, lambda converted: operation(converted, rendered))
        return outcomes if contents is None else await _with_contents(outcomes, contents)

    return UnaryHandler(method, answer)


def paged(
    path: str,
    convert: Convert[M, R],
    operation: PagedOperation[R, V],
    render: Callable[[V], Message],
    *,
    position: Callable[[V], Position],
    tokens: PageTokens,
) -> Handler:
    """Serves a list, page by page: a page ends at `page_size` rows, or at PAGE_BYTES_MAX.

    The response message must have one repeated message field, for the rows, and `next_page_token`. `render`
    makes one row; `position` says where a row is in the list, so that the next page can begin behind it.
    """
    method = find_method(path)
    rows_field = _rows_field(method)

    async def page_of(item: Item[Any]) -> Outcome:
        request = item.request
        size = request.page_size or PAGE_SIZE_DEFAULT
        after = tokens.read(method.path, request.page_token)
        found = await operation(item.asking(convert(item)), Page(after=after, limit=size + 1))
        rows: list[Message] = []
        room_bytes = PAGE_BYTES_MAX
        for value in found[:size]:
            row = render(value)
            room_bytes -= row.ByteSize()
            if room_bytes < 0 and rows:
                break
            rows.append(row)
        more = len(found) > len(rows)
        token = tokens.write(method.path, position(found[len(rows) - 1])) if more else ""
        return Reply(method.response_type(**{rows_field: rows, "next_page_token": token}))

    async def answer(items: Sequence[Item[M]]) -> list[Outcome]:
        async def one(item: Item[M]) -> Outcome:
            try:
                return await page_of(item)
            except Exception as error:  # noqa: BLE001 - the pages of a batch are read side by side
                return _refusal_for(method, item, error)

        return list(await asyncio.gather(*map(one, items)))

    return UnaryHandler(method, answer)


def streamed(
    path: str, convert: Convert[M, R], operation: StreamOperation[R, V], render: Callable[[V], Message]
) -> Handler:
    """Serves a server-streaming method."""
    method = find_method(path)

    async def follow(item: Item[M]) -> AsyncIterator[Message]:
        async for value in operation(item.asking(convert(item))):
            yield render(value)

    return StreamHandler(method, follow)


def fingerprint(method: str, message: Message) -> bytes:
    """16 bytes that tell one request from another: equal for equal messages to the same method."""
    digest = hashlib.blake2b(method.encode(), digest_size=16)
    digest.update(b"\0")
    digest.update(message.SerializeToString(deterministic=True))
    return digest.digest()


async def _answer(
    method: Method,
    items: Sequence[Item[M]],
    convert: Callable[[Item[M]], Item[R]],
    run: Callable[[Sequence[Item[R]]], Awaitable[Sequence[Outcome]]],
) -> list[Outcome]:
    """Converts each item, runs those that could be converted, and puts the outcomes into their order."""
    outcomes: list[Outcome | None] = []
    converted: list[Item[R]] = []
    for item in items:
        try:
            converted.append(convert(item))
            outcomes.append(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours go on
            outcomes.append(_refusal_for(method, item, error))
    answers = iter(await _bisecting(method, converted, run) if converted else ())
    return [next(answers) if outcome is None else outcome for outcome in outcomes]


async def _bisecting(
    method: Method,
    items: Sequence[Item[R]],
    run: Callable[[Sequence[Item[R]]], Awaitable[Sequence[Outcome]]],
) -> list[Outcome]:
    """Runs the operation; if it fails for a reason that one item may be guilty of, runs it on the halves.

    To run an operation again is safe: what a part of the batch has done is found by its keys and ids.
    """
    try:
        return _complete(await run(items), len(items))
    except Exception as error:  # noqa: BLE001 - one item may be guilty, whatever it is
        if len(items) == 1 or _is_about_all(error):
            return [_refusal_for(method, item, error) for item in items]
    middle = len(items) // 2
    first = await _bisecting(method, items[:middle], run)
    return first + await _bisecting(method, items[middle:], run)


def _complete(outcomes: Sequence[Outcome], asked: int) -> list[Outcome]:
    if len(outcomes) != asked:
        raise ValueError(f"{len(outcomes)} outcomes for {asked} items")
    return list(outcomes)


_ABOUT_ALL = frozenset({Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.OVERLOADED})


def _is_about_all(error: Exception) -> bool:
    """Whether the error is about the database or the time, and not about one of the items."""
    if isinstance(error, ServiceError):
        return error.reason in _ABOUT_ALL
    return isinstance(error, OutcomeUnknown | LockTimeout | TimeoutError)


def _refusal_for(method: Method, item: Item[Any], error: Exception) -> ServiceError:
    """What the caller of one item is told about an error that was raised for it."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, DataRefused):
        return refusal_of(error)
    if isinstance(error, OutcomeUnknown | LockTimeout):
        return busy()
    if isinstance(error, TimeoutError):
        return ServiceError(Reason.DEADLINE_EXCEEDED)
    log.error("handler_failed", method=method.path, request_id=item.context.request_id, exc_info=error)
    return ServiceError(Reason.INTERNAL)


def _rendered(method: Method, value: V, render: Callable[[V], Message]) -> Outcome:
    try:
        return Reply(render(value))
    except Exception:
        log.exception("answer_not_rendered", method=method.path)
        return ServiceError(Reason.INTERNAL)


async def _with_contents(outcomes: Sequence[Outcome], contents: Contents) -> list[Outcome]:
    names = {outcome.content for outcome in outcomes if isinstance(outcome, Reply) and outcome.content}
    if not names:
        return list(outcomes)
    try:
        found = await contents(names)
    except Exception as error:  # noqa: BLE001 - the effects are committed: asking again finds them
        log.warning("content_not_found", problem=repr(error))
        found = {}
    return [
        _with_content(outcome, found) if isinstance(outcome, Reply) and outcome.content else outcome
        for outcome in outcomes
    ]


def _with_content(reply: Reply[Any], found: Mapping[str, bytes]) -> Outcome:
    content = found.get(reply.content)
    return busy() if content is None else replace(reply, message=reply.payload() + content, content="")


def _rows_field(method: Method) -> str:
    fields = method.descriptor.output_type.fields
    rows = [field.name for field in fields if field.is_repeated and field.message_type is not None]
    if len(rows) != 1:
        raise TypeError(f"{method.path} must answer with one repeated message field, to be served in pages")
    return rows[0]
