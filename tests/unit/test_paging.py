"""Lists in pages: no row is lost or repeated, a page has a limit, and a forged token is refused alone."""

from __future__ import annotations

import asyncio
import base64
import random
from dataclasses import dataclass

import orjson
import pytest
import structlog.testing

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import InvalidValue
from chassis.rpc.paging import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, TOKEN_CHARACTERS_MAX, PageTokens, Stretch
from chassis.rpc.servicing import PAGE_BYTES_MAX, PAGES_AT_ONCE_MAX, paged
from protos.subscription.v1 import credits_pb2
from tests.support.rpc import ADJUST, LIST, LIST_MINE, call

TOKENS = PageTokens(secret="s")
POISON = "poison"


@pytest.fixture(autouse=True)
def logged():
    """Keeps the log entries; to print each with its traceback would take seconds."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@dataclass(frozen=True)
class Row:
    number: int
    text: str = ""


def rendered(row: Row) -> credits_pb2.CreditEntry:
    return credits_pb2.CreditEntry(entry_id=str(row.number), reason=row.text)


def listing(
    rows, *, tokens=TOKENS, operation=None, render=rendered, convert=lambda item: item.request.user_id
):
    """A list of `rows`, sorted by their numbers, that also records what was asked."""
    asked = []

    async def list_rows(item, page):
        asked.append(page)
        if item.request == POISON:
            raise TypeError("a row that cannot be read")
        after = page.after[0] if page.after else -1
        return [row for row in rows if row.number > after][: page.limit]

    made = paged(
        LIST, convert, operation or list_rows, render, position=lambda row: (row.number,), tokens=tokens
    )
    return made, asked


def item(user: str = "bob", *, size: int = 0, token: str = "", seconds: float = 10.0):
    request = credits_pb2.ListCreditEntriesRequest(user_id=user, page_size=size, page_token=token)
    return Item(call(seconds=seconds), request)


async def page(made, **options):
    (outcome,) = await made.answer([item(**options)])
    return outcome


async def walk(made, *, size: int = 0):
    """The rows of all pages, page by page."""
    pages, token = [], ""
    while True:
        outcome = await page(made, size=size, token=token)
        response = credits_pb2.ListCreditEntriesResponse.FromString(outcome.payload())
        pages.append(response)
        token = response.next_page_token
        if not token:
            return pages


def numbers(pages) -> list[int]:
    return [int(each.entry_id) for response in pages for each in response.entries]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 21])
async def test_all_pages_together_have_each_row_once_in_order(count):
    made, _ = listing([Row(n) for n in range(count)])
    pages = await walk(made, size=10)
    assert numbers(pages) == list(range(count))
    assert len(pages) == max(1, -(-count // 10))


async def test_a_search_that_stops_early_shows_a_short_page_and_the_next_one_goes_on_behind_it():
    wanted, last, reach = {5, 6, 7, 8, 31}, 40, 10

    async def search(item_, page_):
        after = page_.after[0] if page_.after else -1
        end = min(after + reach, last)
        rows = [Row(n) for n in range(after + 1, end + 1) if n in wanted][: page_.limit]
        return Stretch(rows, searched_to=(end,) if end < last else None)

    made, _ = listing([], operation=search)
    pages = await walk(made, size=3)
    assert [[int(each.entry_id) for each in response.entries] for response in pages] == [
        [5, 6, 7],
        [8],
        [],
        [31],
        [],
    ]


async def test_the_size_of_a_page_has_a_default_and_a_bound():
    made, asked = listing([Row(n) for n in range(1001)])
    for size, expected in (
        (0, PAGE_SIZE_DEFAULT),
        (7, 7),
        (PAGE_SIZE_MAX, PAGE_SIZE_MAX),
        (2**31 - 1, PAGE_SIZE_MAX),
    ):
        outcome = await page(made, size=size)
        assert len(outcome.message.entries) == expected
        assert asked[-1].limit == expected + 1


async def test_a_page_ends_at_its_size_limit_and_the_token_continues_it():
    rows = [Row(n, "x" * 300_000) for n in range(10)]
    made, _ = listing(rows)
    pages = await walk(made, size=500)
    assert numbers(pages) == list(range(10))
    assert [len(response.entries) for response in pages] == [3, 3, 3, 1]
    assert all(response.ByteSize() <= PAGE_BYTES_MAX + 1000 for response in pages)


async def test_a_row_that_is_larger_than_a_page_comes_alone():
    rows = [Row(0), Row(1, "x" * (PAGE_BYTES_MAX + 1)), Row(2), Row(3)]
    made, _ = listing(rows)
    pages = await walk(made)
    assert [numbers([response]) for response in pages] == [[0], [1], [2, 3]]


async def test_pages_of_random_rows_lose_and_repeat_nothing():
    seed = random.randrange(2**32)
    print("seed", seed)
    draw = random.Random(seed)
    for _ in range(10):
        rows = [Row(n, "x" * draw.choice([0, 10, 100_000, 700_000])) for n in range(draw.randrange(40))]
        made, _ = listing(rows)
        assert numbers(await walk(made, size=draw.randrange(1, 12))) == [row.number for row in rows]


def forged() -> dict[str, str]:
    def plain_text(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    genuine = TOKENS.write(LIST, (5,))
    sealed = base64.urlsafe_b64decode(genuine + "=" * (-len(genuine) % 4))
    return {
        "not sealed": plain_text(b"[99999999999]"),
        "out of range": plain_text(orjson.dumps([2**63])),
        "NUL": plain_text(b'["\\u0000"]'),
        "another position under a genuine seal": plain_text(sealed[:12] + b"[6]"),
        "of another list": TOKENS.write(LIST_MINE, (5,)),
        "of another deployment": PageTokens(secret="t").write(LIST, (5,)),
        "truncated": genuine[:-1],
        "only a seal": plain_text(sealed[:12]),
        "half a seal": plain_text(sealed[:5]),
        "extended": genuine + "AAAA",
        "with a line break": genuine[:4] + "\n" + genuine[4:],
        "2000 characters": "A" * 2000,
        "2001 characters": "A" * 2001,
        "a million characters": "A" * 1_000_000,
        "one character": "A",
        "not base64": "!!!!",
        "not ASCII": "é" * 20,
        "a fullwidth letter": "\uff21" * 20,
        "with a NUL": "\0" + genuine,
        "JSON": "[5]",
        "spaces": "    ",
    }


@pytest.mark.parametrize("name", forged())
async def test_a_forged_token_is_refused_and_other_requests_are_answered(name):
    made, asked = listing([Row(n) for n in range(10)])
    first, bad, other = await made.answer([item(), item(token=forged()[name]), item()])
    assert [len(outcome.message.entries) for outcome in (first, other)] == [10, 10]
    assert bad.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in bad.violations] == ["pageToken"]
    assert len(asked) == 2  # no operation has seen it


def test_a_token_has_the_position_that_was_written():
    for position in [(5,), ("a", 2**63 - 1), ("é\0", -(2**63)), ()]:
        token = TOKENS.write(LIST, position)
        assert PageTokens(secret="s").read(LIST, token) == position
        assert token.isascii()
        assert "=" not in token
    assert TOKENS.read(LIST, "") is None


def test_a_token_that_the_contract_would_refuse_is_not_written():
    assert len(TOKENS.write(LIST, ("x" * 1400,))) <= TOKEN_CHARACTERS_MAX
    with pytest.raises(ValueError, match="page token"):
        TOKENS.write(LIST, ("x" * 1600,))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TypeError(), Reason.INTERNAL),
        (InvalidValue("22P05"), Reason.INVALID_ARGUMENT),
        (ServiceError(Reason.NOT_FOUND), Reason.NOT_FOUND),
        (TimeoutError(), Reason.DEADLINE_EXCEEDED),
        (asyncio.CancelledError(), Reason.INTERNAL),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("where", ["conversion", "operation", "rendering"])
async def test_any_exception_of_one_page_fails_only_that_page(where, error, reason):
    def fail_if(poisonous: bool) -> None:
        if poisonous:
            raise error

    def convert(item_):
        fail_if(where == "conversion" and item_.request.user_id == POISON)
        return item_.request.user_id

    async def operation(item_, page_):
        fail_if(where == "operation" and item_.request == POISON)
        return [Row(-1 if item_.request == POISON else 1)]

    def render(row):
        fail_if(where == "rendering" and row.number == -1)
        return rendered(row)

    made, _ = listing([], operation=operation, render=render, convert=convert)
    outcomes = await made.answer([item(POISON if n == 37 else "bob") for n in range(60)])
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == [
        reason if n == 37 else None for n in range(60)
    ]


async def test_a_page_that_is_out_of_time_fails_alone():
    async def operation(item_, page_):
        if item_.request == POISON:
            await asyncio.Event().wait()  # an operation that ignores its deadline
        return [Row(1)]

    made, _ = listing([], operation=operation)
    outcomes = await made.answer([item(), item(POISON, seconds=0.05), item()])
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == [
        None,
        Reason.DEADLINE_EXCEEDED,
        None,
    ]


async def test_only_a_limited_number_of_pages_is_read_at_once():
    running = most = 0

    async def operation(item_, page_):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return []

    made, _ = listing([], operation=operation)
    assert len(await made.answer([item() for _ in range(100)])) == 100
    assert most == PAGES_AT_ONCE_MAX


async def test_cancelled_pages_are_cancelled():
    started = asyncio.Event()

    async def operation(item_, page_):
        started.set()
        await asyncio.Event().wait()

    made, _ = listing([], operation=operation)
    reading = asyncio.create_task(made.answer([item(), item()]))
    await started.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


def test_a_list_without_one_field_of_rows_cannot_be_served_in_pages():
    with pytest.raises(TypeError, match="one repeated message field"):
        paged(
            ADJUST, lambda i: i, listing([])[1], rendered, position=lambda row: (row.number,), tokens=TOKENS
        )
