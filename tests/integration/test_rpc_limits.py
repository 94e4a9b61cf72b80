"""Large, many and odd calls in one message: the one that is too much is refused, its neighbours are not."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref

import pytest

import chassis.rpc.carrier
from chassis.errors import Reason, ServiceError
from chassis.rpc.status import STATUS_BYTES_MAX, to_status
from chassis.rpc.wire import (
    ANSWER_MESSAGE_BYTES_MAX,
    ANSWERS_BYTES_MAX,
    CARRIED_CALLS_MAX,
    CONTEXT_CHARACTERS_MAX,
    MESSAGE_BYTES_MAX,
    REQUEST_BYTES_MAX,
)
from protos.chassis.v1 import carrier_pb2
from protos.subscription.v1 import credits_pb2, licenses_pb2
from tests.support.rpc import (
    ADJUST,
    LIST_MINE,
    WATCH,
    Credits,
    adjust,
    call,
    calling,
    serving,
)
from tests.support.waiting import eventually

MEBIBYTE = 1024 * 1024


def told(outcome) -> Reason | int:
    """The reason of a refusal, or the balance that was answered."""
    if isinstance(outcome, ServiceError):
        return outcome.reason
    return outcome.reason if isinstance(outcome, BaseException) else outcome.message.balance


async def all_at_once(client, *asked):
    """What came of calls that gather in one batch."""
    calls = (client.call(ADJUST, request, context) for request, context in asked)
    return [told(outcome) for outcome in await asyncio.gather(*calls, return_exceptions=True)]


@pytest.fixture(params=["gathered", "sent as one"])
def send(request):
    """Both ways in which calls come to travel together."""
    if request.param == "gathered":
        return all_at_once

    async def many(client, *asked):
        return [told(outcome) for outcome in await client.call_many(ADJUST, list(asked))]

    return many


async def test_large_requests_fail_nobody(send):
    large = (adjust(1, "x" * MEBIBYTE), call())  # too long for its field, as the server finds out
    async with serving() as server, calling(server.port) as client:
        answers = await send(client, (adjust(2), call()), *[large] * 20, (adjust(3), call()))
    assert answers == [2, *[Reason.INVALID_ARGUMENT] * 20, 3]


async def test_a_request_that_no_message_can_hold_is_refused_alone(send):
    huge = (adjust(1, "x" * 5 * MEBIBYTE), call())
    async with serving() as server, calling(server.port) as client:
        for _ in range(8):
            answers = await send(client, (adjust(2), call()), huge, (adjust(3), call()))
            assert answers == [2, Reason.PAYLOAD_TOO_LARGE, 3]


async def test_large_answers_fail_nobody():
    servicer = Credits()
    servicer.entry_characters = 3 * MEBIBYTE  # 45 MiB on each of two lanes
    request = credits_pb2.ListMyCreditEntriesRequest()
    learner = call(roles=("learner",))
    async with serving(servicer) as server, calling(server.port) as client:
        replies = await asyncio.gather(*(client.call(LIST_MINE, request, learner) for _ in range(30)))
    assert {len(reply.message.next_page_token) for reply in replies} == {3 * MEBIBYTE}


async def test_answers_that_are_too_large_together_cost_only_the_last_of_them(monkeypatch):
    monkeypatch.setattr("chassis.rpc.server.ANSWERS_BYTES_MAX", 2500)
    servicer = Credits()
    servicer.entry_characters = 1000
    request = credits_pb2.ListMyCreditEntriesRequest()
    async with serving(servicer) as server, calling(server.port) as client:
        outcomes = await client.call_many(LIST_MINE, [(request, call(roles=("learner",)))] * 3)
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == [None, None, Reason.OVERLOADED]


async def test_many_large_answers_of_one_caller_leave_room_for_the_others(monkeypatch):
    monkeypatch.setattr("chassis.rpc.server.ANSWERS_BYTES_MAX", 3500)
    servicer = Credits()
    servicer.entry_characters = 1000
    request = credits_pb2.ListMyCreditEntriesRequest()
    rude = call(roles=("learner",))
    polite = [rude._replace(user_id=user) for user in ("bob", "eve")]
    async with serving(servicer) as server, calling(server.port) as client:
        calls = [(request, context) for context in (*[rude] * 5, *polite)]
        outcomes = await client.call_many(LIST_MINE, calls)
    reasons = [getattr(outcome, "reason", None) for outcome in outcomes]
    assert reasons == [None, *[Reason.OVERLOADED] * 4, None, None]


async def test_text_that_is_none_hurts_no_neighbour(send):
    async with serving() as server, calling(server.port) as client:
        odd = call()._replace(user_id="a\udcffb")
        answers = await send(
            client,
            (adjust(1), call()),
            (adjust(2), call(key="\udcff")),
            (adjust(3), call(request_id="\ud800")),
            (adjust(4), odd),
            (adjust(5), call(key="é" * 255, request_id="\0\n", traceparent="00-no-trace-at-all")),
        )
    assert answers == [1, *[Reason.INVALID_ARGUMENT] * 3, 5]


async def test_a_context_that_is_too_long_hurts_no_neighbour(send):
    async with serving() as server, calling(server.port) as client:
        long = call()._replace(user_id="u" * MEBIBYTE)
        answers = await send(
            client,
            (adjust(1), call()),
            (adjust(2), call(request_id="r" * CONTEXT_CHARACTERS_MAX)),
            (adjust(3), call(key="k" * MEBIBYTE)),
            (adjust(4), long),
            (adjust(5), call(key="\U0001f600" * (CONTEXT_CHARACTERS_MAX - 10))),
        )
    assert answers == [1, *[Reason.INVALID_ARGUMENT] * 3, 5]


def test_the_largest_message_has_room_for_everything_that_is_admitted():
    largest = carrier_pb2.CarryRequest(method=ADJUST)
    for _ in range(CARRIED_CALLS_MAX):
        largest.calls.add(
            request=b"x" * (REQUEST_BYTES_MAX // CARRIED_CALLS_MAX),
            timeout_ms=600_000,
            user_id="\U0001f600" * CONTEXT_CHARACTERS_MAX,
            roles=["learner", "instructor", "admin", "service"],
        )
    assert largest.ByteSize() <= MESSAGE_BYTES_MAX
    answer = carrier_pb2.CarryResponse()
    answer.outcomes.add(response=b"x" * ANSWERS_BYTES_MAX)
    refusal = to_status(ServiceError(Reason.INVALID_ARGUMENT, "x" * (STATUS_BYTES_MAX - 200)))
    for _ in range(CARRIED_CALLS_MAX - 1):
        answer.outcomes.add(error=refusal)
    assert STATUS_BYTES_MAX - 200 < refusal.ByteSize() <= STATUS_BYTES_MAX
    assert answer.ByteSize() <= ANSWER_MESSAGE_BYTES_MAX


async def test_a_call_without_an_end_hurts_no_neighbour(send):
    async with serving() as server, calling(server.port) as client:
        answers = await send(
            client, (adjust(1), call()), (adjust(2), call(seconds=math.inf)), (adjust(3), call(seconds=1e9))
        )
    assert answers == [1, 2, 3]


async def test_a_message_with_more_calls_than_there_is_room_for_is_served_in_part():
    servicer = Credits()
    async with (
        serving(servicer, in_flight_max=100) as server,
        calling(server.port) as client,
    ):
        outcomes = await client.call_many(ADJUST, [(adjust(1), call())] * 150)
        assert [told(outcome) for outcome in outcomes] == [1] * 100 + [Reason.OVERLOADED] * 50
        assert [len(batch) for batch in servicer.batches] == [100]
        outcomes = await client.call_many(ADJUST, [(adjust(1), call())] * 100)
        assert {told(outcome) for outcome in outcomes} == {1}


async def test_more_rpcs_than_the_server_takes_are_an_overload_and_no_outage(monkeypatch):
    monkeypatch.setattr("chassis.rpc.server.CHECKS_MAX", 0)
    monkeypatch.setattr("chassis.rpc.server.WATCHES_MAX", 0)
    servicer = Credits()
    servicer.gate = asyncio.Event()
    async with (
        serving(servicer, concurrent_rpcs_max=1) as server,
        calling(server.port, attempts=1) as client,
    ):
        first = asyncio.create_task(client.call_many(ADJUST, [(adjust(1), call())]))
        await eventually(lambda: servicer.batches)
        for size in (1, 10_000, 100_000):  # the refusal may come while a message is being written
            refused = (client.call_many(ADJUST, [(adjust(2, "x" * size), call())]) for _ in range(20))
            assert {outcome.reason for (outcome,) in await asyncio.gather(*refused)} == {Reason.OVERLOADED}
        assert not client.breaker_open
        servicer.gate.set()
        assert told((await first)[0]) == 1


async def test_large_requests_that_wait_are_bounded_by_their_size(monkeypatch):
    monkeypatch.setattr("chassis.rpc.client.REQUESTS_BYTES_MAX", 5 * MEBIBYTE)
    servicer = Credits()
    servicer.gate = asyncio.Event()
    large = (adjust(1, "x" * MEBIBYTE), call())
    async with serving(servicer) as server, calling(server.port) as client:
        under_way = asyncio.create_task(all_at_once(client, (adjust(2), call()), (adjust(3), call())))
        await eventually(lambda: len(servicer.batches) == 2)  # both lanes are taken
        waiting = asyncio.create_task(all_at_once(client, *[large] * 4))
        await eventually(lambda: client.waiting_calls == 4)
        assert await all_at_once(client, large, large) == [Reason.OVERLOADED] * 2
        servicer.gate.set()
        assert await under_way == [2, 3]
        assert await waiting == [Reason.INVALID_ARGUMENT] * 4
        assert await all_at_once(client, *[large] * 4) == [Reason.INVALID_ARGUMENT] * 4


async def test_an_unreadable_answer_hurts_no_neighbour(monkeypatch):
    class Old(Credits):
        def answer(self, item):
            reply = super().answer(item)
            return reply._replace(message=b"\xff") if item.request.amount == 2 else reply

    async with serving(Old()) as server, calling(server.port) as client:
        outcomes = await client.call_many(ADJUST, [(adjust(n), call()) for n in (1, 2, 3)])
        assert [told(outcome) for outcome in outcomes] == [1, Reason.UNAVAILABLE, 3]
        assert await all_at_once(client, (adjust(2), call()), (adjust(3), call())) == [Reason.UNAVAILABLE, 3]


async def test_a_caller_that_names_no_role_has_none():
    nobody = call(roles=())
    async with serving() as server, calling(server.port) as client:
        with pytest.raises(ServiceError) as caught:
            await anext(client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), nobody))
        assert caught.value.reason is Reason.PERMISSION_DENIED
        with pytest.raises(ServiceError) as caught:
            await client.call(ADJUST, adjust(1), nobody)
        assert caught.value.reason is Reason.PERMISSION_DENIED


async def test_a_refusal_leaves_nothing_for_the_garbage_collector():
    async with serving() as server, calling(server.port) as client:
        gc.collect()
        gc.disable()
        try:
            with pytest.raises(ServiceError) as caught:
                await client.call(ADJUST, adjust(13), call())
            refusal = weakref.ref(caught.value)
            del caught
            await asyncio.sleep(0)
            assert refusal() is None
        finally:
            gc.enable()


async def test_what_waits_is_sent_in_messages_of_a_usual_size(monkeypatch):
    monkeypatch.setattr(chassis.rpc.carrier, "MESSAGE_BYTES_USUAL", 3 * len(adjust(1).SerializeToString()))
    servicer = Credits()
    async with serving(servicer) as server, calling(server.port) as client:
        assert await all_at_once(client, *[(adjust(n), call()) for n in range(1, 9)]) == list(range(1, 9))
    assert sorted(len(batch) for batch in servicer.batches) == [1, 1, 3, 3]  # 4 on each of two lanes
