"""The items of a batch are isolated: an error that one item causes is the outcome of that item alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import structlog.testing

import chassis.rpc.servicing
from chassis.batch import Item, Reply
from chassis.errors import Reason, ServiceError, invalid_field
from chassis.postgres.errors import (
    ConstraintViolation,
    InvalidValue,
    LockTimeout,
    OutcomeUnknown,
    ViolationKind,
)
from chassis.rpc.dispatch import Dispatcher
from chassis.rpc.methods import find_method
from chassis.rpc.servicing import fingerprint, keyed, plain, streamed
from chassis.telemetry.metrics import Metrics
from protos.session.v1 import sessions_pb2
from protos.subscription.v1 import credits_pb2, licenses_pb2
from tests.support.rpc import ADJUST, LIST, WATCH, adjust, call, tracing

POISON = 37  # one of sixty
BATCH = 60

# What one item may raise, and what it alone is told.
OF_ONE_ITEM = [
    (ServiceError(Reason.NOT_FOUND), Reason.NOT_FOUND),
    (ServiceError(Reason.INTERNAL), Reason.INTERNAL),
    (invalid_field("amount", "is odd"), Reason.INVALID_ARGUMENT),
    (InvalidValue("22003"), Reason.INVALID_ARGUMENT),
    (ConstraintViolation("notes_once", ViolationKind.UNIQUE), Reason.UNAVAILABLE),
    (TypeError("can't compare offset-naive and offset-aware datetimes"), Reason.INTERNAL),
    (OverflowError(), Reason.INTERNAL),
    (KeyError("x"), Reason.INTERNAL),
    (RecursionError(), Reason.INTERNAL),
    (ExceptionGroup("tasks", [TypeError()]), Reason.INTERNAL),
    (ExceptionGroup("tasks", [ServiceError(Reason.NOT_FOUND)]), Reason.NOT_FOUND),
    (asyncio.CancelledError(), Reason.INTERNAL),
]
# What is about the whole batch.
OF_ALL = [
    (ServiceError(Reason.UNAVAILABLE), Reason.UNAVAILABLE),
    (ServiceError(Reason.OVERLOADED), Reason.OVERLOADED),
    (ServiceError(Reason.DEADLINE_EXCEEDED), Reason.DEADLINE_EXCEEDED),
    (OutcomeUnknown(), Reason.UNAVAILABLE),
    (LockTimeout(), Reason.UNAVAILABLE),
    (TimeoutError(), Reason.DEADLINE_EXCEEDED),
    (ExceptionGroup("tasks", [OutcomeUnknown()]), Reason.UNAVAILABLE),
]


@pytest.fixture(autouse=True)
def logged():
    """Keeps the log entries; to print each with its traceback would take seconds."""
    with structlog.testing.capture_logs() as entries:
        yield entries


def named(error) -> str:
    return repr(error) if isinstance(error, Exception) else getattr(error, "name", type(error).__name__)


def items(count: int = BATCH) -> list[Item[credits_pb2.AdjustCreditsRequest]]:
    return [Item(call(key=f"k{number}"), adjust(number)) for number in range(count)]


def amount(item) -> int:
    return item.request.amount


def balance(value: int) -> credits_pb2.AdjustCreditsResponse:
    return credits_pb2.AdjustCreditsResponse(balance=value)


async def echo(items_):
    return [item.request for item in items_]


async def echo_keyed(items_, render):
    return [Reply(render(item.request)) for item in items_]


def told(outcomes) -> list[Reason | int]:
    return [
        outcome.reason
        if isinstance(outcome, ServiceError)
        else credits_pb2.AdjustCreditsResponse.FromString(outcome.payload()).balance
        for outcome in outcomes
    ]


def all_but_one(reason: Reason) -> list[Reason | int]:
    return [reason if number == POISON else number for number in range(BATCH)]


def raising(error, then):
    """The same function, which raises for the poisonous item."""

    def check(value):
        if value == POISON:
            raise error
        return then(value)

    return check


def handler(kind: str, *, convert=amount, render=balance, fails=None):
    """A handler of either kind whose operation calls `fails` with each batch."""

    async def plain_operation(items_):
        if fails is not None:
            fails(items_)
        return await echo(items_)

    async def keyed_operation(items_, rendered):
        if fails is not None:
            fails(items_)
        return await echo_keyed(items_, rendered)

    if kind == "plain":
        return plain(ADJUST, convert, plain_operation, render)
    return keyed(ADJUST, convert, keyed_operation, render)


@pytest.fixture(params=["plain", "keyed"])
def kind(request) -> str:
    return request.param


@pytest.mark.parametrize(("error", "reason"), OF_ONE_ITEM, ids=named)
async def test_a_conversion_that_raises_fails_only_its_item(kind, error, reason):
    if isinstance(error, asyncio.CancelledError):
        return  # a conversion waits for nothing
    convert = raising(error, lambda value: value)
    answer = handler(kind, convert=lambda item: convert(amount(item))).answer
    assert told(await answer(items())) == all_but_one(reason)


@pytest.mark.parametrize(("error", "reason"), OF_ONE_ITEM, ids=named)
async def test_an_operation_that_raises_for_one_item_fails_only_that_item(kind, error, reason, logged):
    runs = []

    def fails(items_):
        runs.append(len(items_))
        if any(item.request == POISON for item in items_):
            raise error

    assert told(await handler(kind, fails=fails).answer(items())) == all_but_one(reason)
    assert len(runs) <= 2 * 6 + 1  # bisected: not each item by itself
    assert len(logged) <= 1


@pytest.mark.parametrize(("error", "reason"), OF_ALL, ids=named)
async def test_an_error_about_the_whole_batch_is_shared_and_not_bisected(kind, error, reason):
    runs = []

    def fails(items_):
        runs.append(len(items_))
        raise error

    assert told(await handler(kind, fails=fails).answer(items())) == [reason] * BATCH
    assert runs == [BATCH]


@pytest.mark.parametrize("error", [TypeError(), OverflowError()], ids=named)
async def test_an_answer_that_cannot_be_rendered_fails_only_its_item(kind, error):
    outcomes = await handler(kind, render=raising(error, balance)).answer(items())
    assert told(outcomes) == all_but_one(Reason.INTERNAL)


async def test_a_refusal_raised_by_the_rendering_keeps_its_reason(kind):
    render = raising(ServiceError(Reason.NOT_FOUND), balance)
    assert told(await handler(kind, render=render).answer(items())) == all_but_one(Reason.NOT_FOUND)


async def test_refusals_among_the_values_are_outcomes(kind):
    async def some_plain(items_):
        return [ServiceError(Reason.NOT_FOUND) if i.request == POISON else i.request for i in items_]

    async def some_keyed(items_, render):
        return [v if isinstance(v, ServiceError) else Reply(render(v)) for v in await some_plain(items_)]

    made = (
        plain(ADJUST, amount, some_plain, balance)
        if kind == "plain"
        else keyed(ADJUST, amount, some_keyed, balance)
    )
    assert told(await made.answer(items())) == all_but_one(Reason.NOT_FOUND)


@pytest.mark.parametrize("answered", [[], [1], None, [1] * 61])
async def test_an_operation_with_a_wrong_number_of_outcomes_fails_only_the_item_that_causes_it(answered):
    async def miscounting(items_):
        return answered if any(item.request == POISON for item in items_) else await echo(items_)

    if answered == [1]:  # counted right for the item alone
        expected: list[Reason | int] = [1 if number == POISON else number for number in range(BATCH)]
    else:
        expected = all_but_one(Reason.INTERNAL)
    assert told(await plain(ADJUST, amount, miscounting, balance).answer(items())) == expected


async def test_nothing_runs_when_no_item_could_be_converted(kind):
    def convert(_item):
        raise invalid_field("amount", "is odd")

    def fails(_items):
        raise AssertionError

    outcomes = await handler(kind, convert=convert, fails=fails).answer(items(3))
    assert told(outcomes) == [Reason.INVALID_ARGUMENT] * 3


async def test_a_cancelled_batch_is_cancelled(kind):
    started = asyncio.Event()

    async def waits(*_arguments):
        started.set()
        await asyncio.Event().wait()

    made = plain(ADJUST, amount, waits, balance) if kind == "plain" else keyed(ADJUST, amount, waits, balance)
    task = asyncio.create_task(made.answer(items()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_only_keyed_requests_have_a_fingerprint():
    seen = []

    async def operation(items_, render):
        seen.extend(items_)
        return await echo_keyed(items_, render)

    await keyed(ADJUST, amount, operation, balance).answer(items(2))
    assert [item.fingerprint for item in seen] == [fingerprint(ADJUST, adjust(n)) for n in (0, 1)]
    assert len({item.fingerprint for item in seen}) == 2
    assert fingerprint(LIST, adjust(1)) != fingerprint(ADJUST, adjust(1))


def entry(note: str) -> bytes:
    response = credits_pb2.AdjustCreditsResponse(entry=credits_pb2.CreditEntry(entry_id=note))
    return response.SerializeToString()


def naming_contents(contents):
    async def operation(items_, render):
        return [
            Reply(render(item.request), replayed=True, content=f"c{item.request}" if item.request else "")
            for item in items_
        ]

    return keyed(ADJUST, amount, operation, balance, contents=contents)


async def test_content_is_appended_to_the_answers_that_name_it_in_one_lookup():
    asked = []

    async def contents(names):
        asked.append(sorted(names))
        return {name: entry(name) for name in names}

    outcomes = await naming_contents(contents).answer(items(3))
    responses = [credits_pb2.AdjustCreditsResponse.FromString(outcome.payload()) for outcome in outcomes]
    assert [(r.balance, r.entry.entry_id) for r in responses] == [(0, ""), (1, "c1"), (2, "c2")]
    assert [outcome.replayed for outcome in outcomes] == [True] * 3
    assert asked == [["c1", "c2"]]


async def test_missing_content_fails_only_the_answer_that_names_it():
    async def contents(names):
        return {name: entry(name) for name in names if name != f"c{POISON}"}

    assert told(await naming_contents(contents).answer(items())) == all_but_one(Reason.UNAVAILABLE)


async def test_content_that_cannot_be_rendered_fails_only_the_answer_that_names_it():
    async def contents(names):
        if f"c{POISON}" in names:
            raise TypeError
        return {name: entry(name) for name in names}

    assert told(await naming_contents(contents).answer(items())) == all_but_one(Reason.UNAVAILABLE)


async def test_content_of_a_wrong_type_fails_only_the_answer_that_names_it():
    async def contents(names):
        return {name: "no bytes" if name == f"c{POISON}" else entry(name) for name in names}

    assert told(await naming_contents(contents).answer(items())) == all_but_one(Reason.INTERNAL)


async def test_contents_that_cannot_be_read_now_are_asked_for_once():
    asked = []

    async def contents(names):
        asked.append(names)
        raise ServiceError(Reason.UNAVAILABLE)

    outcomes = await naming_contents(contents).answer(items(4))
    assert told(outcomes) == [0, *[Reason.UNAVAILABLE] * 3]
    assert len(asked) == 1


def of_a_rude_one_and_a_polite_one() -> list[Item[credits_pb2.AdjustCreditsRequest]]:
    *rude, polite = items()
    return [*rude, polite._replace(context=polite.context._replace(user_id="polite"))]


async def test_answers_beyond_the_room_of_their_message_are_not_rendered(monkeypatch):
    monkeypatch.setattr("chassis.rpc.servicing.ANSWERS_BYTES_MAX", 1)
    rendered = []

    def render(value):
        rendered.append(value)
        return credits_pb2.AdjustCreditsResponse(balance=value, entry={"entry_id": "large"})

    outcomes = await handler("plain", render=render).answer(of_a_rude_one_and_a_polite_one())
    assert rendered == [0]
    assert told(outcomes) == [0, *[Reason.OVERLOADED] * (BATCH - 1)]


async def test_the_room_for_answers_is_given_in_turns(monkeypatch):
    size = len(balance(BATCH).SerializeToString())
    monkeypatch.setattr("chassis.rpc.servicing.ANSWERS_BYTES_MAX", size)
    outcomes = await handler("plain").answer(of_a_rude_one_and_a_polite_one())
    assert told(outcomes) == [0, *[Reason.OVERLOADED] * (BATCH - 2), BATCH - 1]


async def test_contents_are_appended_in_turns_until_their_message_is_full(monkeypatch):
    async def contents(names):
        return {name: entry(name) for name in names}

    size = len(balance(BATCH).SerializeToString() + entry(f"c{BATCH}"))
    monkeypatch.setattr("chassis.rpc.servicing.ANSWERS_BYTES_MAX", size)
    outcomes = await naming_contents(contents).answer(of_a_rude_one_and_a_polite_one())
    # The first item names no content, and so it takes no room.
    assert told(outcomes) == [0, *[Reason.OVERLOADED] * (BATCH - 2), BATCH - 1]


async def test_a_stream_converts_and_renders():
    async def following(item):
        for number in range(item.request):
            yield number

    made = streamed(
        WATCH,
        lambda item: item.request.after_sequence,
        following,
        lambda number: licenses_pb2.WatchLicensesResponse(sequence=number),
    )
    item = Item(call(), licenses_pb2.WatchLicensesRequest(after_sequence=3))
    assert [message.sequence async for message in made.follow(item)] == [0, 1, 2]


def test_an_answer_has_the_same_bytes_whatever_the_order_in_which_its_map_was_filled():
    pairs = [(f"key-{number}", str(number)) for number in range(32)]
    one = Reply(sessions_pb2.Session(metadata=dict(pairs)))
    other = Reply(sessions_pb2.Session(metadata=dict(reversed(pairs))))
    assert one.payload() == other.payload()


async def dispatched(made, payloads):
    dispatcher = Dispatcher(
        handlers=[made, *(_unused(path) for path in (LIST, _sibling("ListMyCreditEntries")))],
        tracing=tracing(),
        metrics=Metrics(service="test"),
        in_flight_max=100,
    )
    requests = [(payload, call(key=f"k{place}")) for place, payload in enumerate(payloads)]
    return await dispatcher.run(find_method(ADJUST), requests)


def _sibling(name: str) -> str:
    return f"{ADJUST.rpartition('/')[0]}/{name}"


def _unused(path: str):
    return plain(path, lambda item: item, echo, lambda value: value)


async def test_a_reply_that_cannot_be_serialized_fails_only_its_item():
    async def operation(items_, render):
        return [
            None if number == 1 else Reply(object()) if number == 2 else Reply(render(item.request))
            for number, item in enumerate(items_)
        ]

    payloads = [adjust(number).SerializeToString() for number in (1, 2, 3, 4)]
    outcomes = await dispatched(keyed(ADJUST, amount, operation, balance), payloads)
    assert told(outcomes) == [1, Reason.INTERNAL, Reason.INTERNAL, 4]


async def test_a_validation_that_raises_fails_only_its_item(monkeypatch):
    def validate(message):
        if message.amount == 2:
            raise RuntimeError("a rule that cannot be evaluated")

    monkeypatch.setattr("chassis.rpc.dispatch.validate", validate)
    payloads = [
        adjust(1).SerializeToString(),
        adjust(2).SerializeToString(),
        b"\xff",
        adjust(3).SerializeToString(),
    ]
    outcomes = await dispatched(handler("keyed"), payloads)
    assert told(outcomes) == [1, Reason.INTERNAL, Reason.INVALID_ARGUMENT, 3]


async def test_a_handler_that_raises_is_an_internal_error_of_its_batch(monkeypatch):
    made = handler("keyed")

    async def answer(_items):
        raise RuntimeError("a bug")

    outcomes = await dispatched(replace(made, answer=answer), [adjust(1).SerializeToString()] * 2)
    assert told(outcomes) == [Reason.INTERNAL] * 2


def test_the_bounds_are_those_of_the_contract():
    assert chassis.rpc.servicing.PAGE_BYTES_MAX == 1024 * 1024
