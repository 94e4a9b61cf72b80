"""How a method is served: convert each request, run the operation, render each answer.

A servicer is a list of handlers; `plain`, `keyed`, `paged` and `streamed` make them. If one request of a
batch causes an error, only that request fails. This holds for every type of error, and for every step: the
conversion, the operation, and the rendering of the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from google.protobuf.message import Message

from chassis.batch import Item, Outcome, Reply
from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import DataRefused, LockTimeout, OutcomeUnknown
from chassis.postgres.refusals import ABOUT_ALL, busy, refusal_of
from chassis.rpc.faults import cancelled_by_caller
from chassis.rpc.methods import Method, find_method
from chassis.rpc.paging import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, Page, PageTokens, Position, Stretch
from chassis.rpc.room import in_turns, no_room
from chassis.rpc.wire import ANSWERS_BYTES_MAX
from chassis.telemetry.logs import get_logger

# A page ends before its rows exceed this size, even if it has fewer than `page_size` rows.
PAGE_BYTES_MAX = 1024 * 1024
# Pages of one batch that are read at the same time. More of them would only wait for a database connection.
PAGES_AT_ONCE_MAX = 16

M = TypeVar("M", bound=Message)
R = TypeVar("R")
V = TypeVar("V")

# Converts a request message into the operation's own type; raises ServiceError if the request is wrong.
Convert = Callable[[Item[M]], R]
# Returns an outcome for each item, in the same order. It may raise a ServiceError about the whole batch.
PlainOperation = Callable[[Sequence[Item[R]]], Awaitable[Sequence[V | ServiceError]]]
# The same for keyed mutations. The operation gets the render function, because it stores the answers with the
# keys.
KeyedOperation = Callable[[Sequence[Item[R]], Callable[[V], bytes]], Awaitable[Sequence[Outcome]]]
# Returns the rows of one page: at most `page.limit`, after `page.after`. If the rows have to be searched for,
# it returns the stretch of the list that it has searched.
PagedOperation = Callable[[Item[R], Page], Awaitable[Sequence[V] | Stretch[V]]]
# Reads what a page shows besides its rows, and makes the response message with it.
PageHead = tuple[Callable[[Item[R]], Awaitable[Any]], Callable[[Any], Message]]
# Yields the values of a stream, until the stream ends.
StreamOperation = Callable[[Item[R]], AsyncIterator[V]]
# Returns the serialized content of each name; see `Reply.content`.
Contents = Callable[[Collection[str]], Awaitable[Mapping[str, bytes]]]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UnaryHandler:
    """Answers a batch of requests to one method: one outcome for each item, in the same order."""

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
            return _rendered_in_room(method, converted, await operation(converted), render)

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
    """Serves a unary method that needs a key. Its answers are stored, and repeated for the same key.

    `contents` finds the content that an answer names. The content is appended to the answer: protobuf reads
    concatenated encodings as one merged message (protobuf.dev/programming-guides/encoding, "Last One Wins").
    If the content is not found, the outcome is UNAVAILABLE: the effect is committed, and a retry replays it.
    """
    method = find_method(path)
    fingerprint_of = fingerprints(method.path)

    def with_key(item: Item[M]) -> Item[R]:
        return Item(item.context, convert(item), fingerprint_of(item.request))

    def rendered(value: V) -> bytes:
        return render(value).SerializeToString(deterministic=True)

    async def answer(items: Sequence[Item[M]]) -> list[Outcome]:
        outcomes = await _answer(method, items, with_key, lambda converted: operation(converted, rendered))
        return outcomes if contents is None else await _with_contents(items, outcomes, contents)

    return UnaryHandler(method, answer)


def paged(
    path: str,
    convert: Convert[M, R],
    operation: PagedOperation[R, V],
    render: Callable[[V], Message],
    *,
    position: Callable[[V], Position],
    tokens: PageTokens,
    head: PageHead[R] | None = None,
) -> Handler:
    """Serves a list in pages. A page ends at `page_size` rows, before PAGE_BYTES_MAX, or where a search ends.

    The response message must have one repeated message field, for the rows, and `next_page_token`. `render`
    makes one row. `position` returns the position of a row in the list: the next page begins after it. `head`
    fills the other fields of the response.
    """
    method = find_method(path)
    rows_field = _rows_field(method)

    async def page_of(item: Item[Any]) -> Outcome:
        request = item.request
        size = min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        after = tokens.read(method.path, request.page_token)
        answer = await operation(item.asking(convert(item)), Page(after=after, limit=size + 1))
        stretch = answer if isinstance(answer, Stretch) else Stretch(answer, searched_to=None)
        found = stretch.rows
        rows: list[Message] = []
        room_bytes = PAGE_BYTES_MAX
        for value in found[:size]:
            row = render(value)
            room_bytes -= row.ByteSize()
            if room_bytes < 0 and rows:
                break
            rows.append(row)
        ended_at = position(found[len(rows) - 1]) if len(found) > len(rows) else stretch.searched_to
        token = "" if ended_at is None else tokens.write(method.path, ended_at)
        page = method.response_type(**{rows_field: rows, "next_page_token": token})
        if head is not None:
            read_head, render_head = head
            page.MergeFrom(render_head(await read_head(item.asking(convert(item)))))
        return Reply(page)

    async def answer(items: Sequence[Item[M]]) -> list[Outcome]:
        places = asyncio.Semaphore(PAGES_AT_ONCE_MAX)

        async def one(item: Item[M]) -> Outcome:
            try:
                async with asyncio.timeout(item.context.remaining_seconds()), places:
                    return await page_of(item)
            except (Exception, asyncio.CancelledError) as error:
                if cancelled_by_caller(error):
                    raise
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


def fingerprints(method: str) -> Callable[[Message], bytes]:
    """Makes the fingerprints of requests to a method; see `fingerprint`."""
    of_method = hashlib.blake2b(method.encode() + b"\0", digest_size=16)

    def of_request(message: Message) -> bytes:
        digest = of_method.copy()
        digest.update(message.SerializeToString(deterministic=True))
        return digest.digest()

    return of_request


def fingerprint(method: str, message: Message) -> bytes:
    """A hash of 16 bytes that identifies a request: it is equal for equal messages to the same method."""
    return fingerprints(method)(message)


async def _answer(
    method: Method,
    items: Sequence[Item[M]],
    convert: Callable[[Item[M]], Item[R]],
    run: Callable[[Sequence[Item[R]]], Awaitable[Sequence[Outcome]]],
) -> list[Outcome]:
    """Converts each item, and runs the operation on the items that could be converted. Keeps the order."""
    converted: list[Item[R]] = []
    refused: dict[int, ServiceError] = {}
    for place, item in enumerate(items):
        try:
            converted.append(convert(item))
        except Exception as error:  # noqa: BLE001 - no error may stop the other items
            refused[place] = _refusal_for(method, item, error)
    outcomes = await _bisecting(method, converted, run) if converted else []
    for place, refusal in refused.items():  # from the first to the last, so each goes to its own place
        outcomes.insert(place, refusal)
    return outcomes


async def _bisecting(
    method: Method,
    items: Sequence[Item[R]],
    run: Callable[[Sequence[Item[R]]], Awaitable[Sequence[Outcome]]],
) -> list[Outcome]:
    """Runs the operation. If it fails, and one item may be the reason, bisects the batch.

    An operation may safely run again: it finds the effects of an earlier run by keys and ids.
    """
    try:
        outcomes = list(await run(items))
        if len(outcomes) == len(items):
            return outcomes
        problem: BaseException = ValueError(f"{len(outcomes)} outcomes for {len(items)} items")
    except (Exception, asyncio.CancelledError) as error:
        if cancelled_by_caller(error):
            raise
        problem = error
    if len(items) == 1 or _is_about_all(problem):
        return [_refusal_for(method, item, problem) for item in items]
    middle = len(items) // 2
    first = await _bisecting(method, items[:middle], run)
    return first + await _bisecting(method, items[middle:], run)


def _first_of(error: BaseException) -> BaseException:
    """The error itself, or the first one of a task group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_about_all(error: BaseException) -> bool:
    """Whether the error is about the database, an upstream or the time, and not about one of the items."""
    error = _first_of(error)
    if isinstance(error, ServiceError):
        return error.reason in ABOUT_ALL
    return isinstance(error, OutcomeUnknown | LockTimeout | TimeoutError)


def _refusal_for(method: Method, item: Item[Any], error: BaseException) -> ServiceError:
    """The refusal of one item for this error."""
    error = _first_of(error)
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, DataRefused):
        return refusal_of(error)
    if isinstance(error, OutcomeUnknown | LockTimeout):
        return busy()
    if isinstance(error, TimeoutError):
        return ServiceError(Reason.DEADLINE_EXCEEDED)
    log.error("request_failed", method=method.path, request_id=item.context.request_id, exc_info=error)
    return ServiceError(Reason.INTERNAL)


def _rendered_in_room(
    method: Method,
    items: Sequence[Item[R]],
    values: Sequence[V | ServiceError],
    render: Callable[[V], Message],
) -> list[Outcome]:
    """Renders in turns until the message is full: an answer that cannot be sent must not take memory."""
    if len(values) != len(items):
        raise ValueError(f"{len(values)} values for {len(items)} items")
    outcomes: list[Outcome | None] = [value if isinstance(value, ServiceError) else None for value in values]
    room_bytes = ANSWERS_BYTES_MAX
    for place in in_turns([item.user_id for item in items]):
        value = values[place]
        if room_bytes <= 0:
            break
        if not isinstance(value, ServiceError):
            outcome = outcomes[place] = _rendered(method, value, render)
            if isinstance(outcome, Reply):
                room_bytes -= len(outcome.payload())
    return [no_room() if outcome is None else outcome for outcome in outcomes]


def _rendered(method: Method, value: V, render: Callable[[V], Message]) -> Outcome:
    try:
        return Reply(render(value).SerializeToString(deterministic=True))
    except ServiceError as error:
        return error
    except Exception:
        log.exception("answer_not_rendered", method=method.path)
        return ServiceError(Reason.INTERNAL)


async def _with_contents(
    items: Sequence[Item[Any]], outcomes: Sequence[Outcome], contents: Contents
) -> list[Outcome]:
    """The outcomes with their contents appended, in turns, as long as there is room in their message."""
    names = {outcome.content for outcome in outcomes if isinstance(outcome, Reply) and outcome.content}
    if not names:
        return list(outcomes)
    found = await _found(contents, sorted(names))
    complete = list(outcomes)
    room_bytes = ANSWERS_BYTES_MAX
    for place in in_turns([item.user_id for item in items]):
        outcome = outcomes[place]
        if isinstance(outcome, Reply) and outcome.content:
            complete[place] = outcome = _with_content(outcome, found) if room_bytes > 0 else no_room()
            room_bytes -= len(outcome.payload()) if isinstance(outcome, Reply) else 0
    return complete


async def _found(contents: Contents, names: Sequence[str]) -> dict[str, bytes]:
    """The contents that can be found. If one cannot be rendered, the others are still found."""
    try:
        return dict(await contents(names))
    except Exception as error:
        if len(names) == 1 or _is_about_all(error):
            log.warning("content_not_found", names=names[:10], exc_info=error)
            return {}
    middle = len(names) // 2
    return await _found(contents, names[:middle]) | await _found(contents, names[middle:])


def _with_content(reply: Reply[Any], found: Mapping[str, bytes]) -> Outcome:
    content = found.get(reply.content)
    if content is None:
        return busy()
    try:
        return Reply(reply.payload() + content, reply.replayed, reply.original)
    except Exception:
        log.exception("content_not_appended", content=reply.content)
        return ServiceError(Reason.INTERNAL)


def _rows_field(method: Method) -> str:
    fields = method.descriptor.output_type.fields
    rows = [field.name for field in fields if field.is_repeated and field.message_type is not None]
    if len(rows) != 1:
        raise TypeError(f"{method.path} is served in pages: its response needs one repeated message field")
    return rows[0]
