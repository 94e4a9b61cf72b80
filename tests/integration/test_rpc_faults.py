"""Calls to a process that is slow, stopped, gone or going: each ends, and afterwards they work again."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import grpc
import grpc.aio
import pytest

import chassis.rpc.carrier
from chassis.errors import FieldViolation, Reason, ServiceError
from chassis.rpc.servicing import streamed
from chassis.telemetry.metrics import Metrics
from protos.subscription.v1 import licenses_pb2
from tests.support.proxy import proxying
from tests.support.rpc import (
    ADJUST,
    WATCH,
    Credits,
    adjust,
    call,
    calling,
    license_handlers,
    other_process,
    port_to_come_back_to,
    reason_of,
    serving,
    unconverted,
    unrendered,
    upstream_to,
)
from tests.support.waiting import eventually


@pytest.mark.fault
async def test_a_stopped_process_holds_nobody_beyond_the_deadline_and_serves_again_when_it_goes_on():
    async with (
        other_process() as (port, process),
        calling(port) as stopped,
        serving() as server,
        calling(server.port) as running,
    ):
        assert await reason_of(stopped) is None
        os.kill(process.pid, signal.SIGSTOP)
        stuck = [asyncio.create_task(reason_of(stopped, seconds=0.5)) for _ in range(200)]
        assert await reason_of(running) is None
        assert set(await asyncio.gather(*stuck)) == {Reason.DEADLINE_EXCEEDED}
        os.kill(process.pid, signal.SIGCONT)

        async def answered() -> bool:
            return await reason_of(stopped, seconds=2.0) is None

        await eventually(answered)
        assert set(await asyncio.gather(*(reason_of(stopped) for _ in range(200)))) == {None}


@pytest.mark.fault
async def test_a_process_that_dies_while_stopped_is_unavailable_at_once():
    async with other_process() as (port, process), calling(port, attempts=1) as client:
        assert await reason_of(client) is None
        os.kill(process.pid, signal.SIGSTOP)
        stuck = [asyncio.create_task(reason_of(client, seconds=60)) for _ in range(200)]
        await eventually(lambda: client.waiting_calls)
        process.kill()
        assert set(await asyncio.gather(*stuck)) == {Reason.UNAVAILABLE}


@pytest.mark.fault
async def test_a_host_that_fell_silent_is_found_out_whatever_the_deadlines_are(monkeypatch):
    monkeypatch.setattr(chassis.rpc.carrier, "SILENCE_MS", 500)
    service = call(roles=("service",))
    async with (
        serving(endless=True) as server,
        proxying(server.port) as proxy,
        calling(proxy.port, attempts=1) as client,
    ):
        watch = client.stream(WATCH, licenses_pb2.WatchLicensesRequest(after_sequence=0), service)
        assert [(await anext(watch)).sequence for _ in range(3)] == [1, 2, 3]
        proxy.silent = True
        with pytest.raises(ServiceError) as caught:
            await asyncio.wait_for(anext(watch), 20)
        assert caught.value.reason is Reason.UNAVAILABLE
        proxy.silent = False

        async def answered() -> bool:
            return await reason_of(client, seconds=2.0) is None

        await eventually(answered)
        proxy.silent = True
        assert await asyncio.wait_for(reason_of(client, seconds=60), 20) is Reason.UNAVAILABLE


async def test_a_quiet_stream_is_not_cut_for_being_watched_over(monkeypatch):
    monkeypatch.setattr(chassis.rpc.carrier, "SILENCE_MS", 100)
    monkeypatch.setattr("chassis.rpc.server.PINGS_APART_MS", 50)
    service = call(roles=("service",))
    async with serving(endless=True) as server, calling(server.port) as client:
        watch = client.stream(WATCH, licenses_pb2.WatchLicensesRequest(after_sequence=0), service)
        assert [(await anext(watch)).sequence for _ in range(3)] == [1, 2, 3]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watch), 1)


async def test_a_process_that_comes_back_at_its_address_is_found_again():
    async with serving(bind=f"127.0.0.1:{port_to_come_back_to()}") as server:
        client = upstream_to(server.port)
        assert await reason_of(client) is None
    while not client.breaker_open:
        assert await reason_of(client) is Reason.UNAVAILABLE
    async with serving(bind=f"127.0.0.1:{server.port}"):

        async def answered() -> bool:
            return await reason_of(client) is None

        await eventually(answered)
        assert set(await asyncio.gather(*(reason_of(client) for _ in range(200)))) == {None}
        await client.close()


async def test_a_process_that_is_slow_to_greet_is_waited_for():
    async with serving() as server, proxying(server.port) as proxy:
        proxy.first_answer_seconds = 1.5
        async with calling(proxy.port, attempts=1) as client:
            assert await reason_of(client) is None


async def test_a_call_whose_time_is_over_is_not_sent_and_says_nothing_about_the_upstream():
    servicer, metrics = Credits(), Metrics(service="test")
    async with serving(servicer, metrics=metrics) as server, calling(server.port, attempts=1) as client:
        late = [(adjust(1), call(seconds=-1.0)), (adjust(2), call()), (adjust(3), call(seconds=-1.0))]
        outcomes = await client.call_many(ADJUST, late)
        assert [getattr(outcome, "reason", None) for outcome in outcomes] == [
            Reason.DEADLINE_EXCEEDED,
            None,
            Reason.DEADLINE_EXCEEDED,
        ]
        for _ in range(20):
            assert await reason_of(client, seconds=-1.0) is Reason.DEADLINE_EXCEEDED
            (outcome,) = await client.call_many(ADJUST, [(adjust(4), call(seconds=-1.0))])
            assert outcome.reason is Reason.DEADLINE_EXCEEDED
        assert servicer.amounts == [2]
        assert b"DEADLINE_EXCEEDED" not in metrics.render()
        assert await reason_of(client) is None


async def test_a_call_that_expires_in_the_queue_is_never_sent():
    servicer = Credits()
    servicer.gate = asyncio.Event()
    async with serving(servicer) as server, calling(server.port, lanes=1) as client:
        first = asyncio.create_task(reason_of(client, 1))
        await eventually(lambda: servicer.batches)
        assert await reason_of(client, 2, seconds=0.2) is Reason.DEADLINE_EXCEEDED
        servicer.gate.set()
        assert await first is None
        assert await reason_of(client, 3) is None
        assert servicer.amounts == [1, 3]


async def test_a_call_that_expires_while_the_server_is_too_busy_to_look_is_not_carried_out():
    servicer = Credits()
    async with serving(servicer) as server, calling(server.port) as client:
        assert await reason_of(client) is None
        sending = client.call_many(ADJUST, [(adjust(2), call(seconds=0.5)), (adjust(3), call())])
        outcomes = asyncio.create_task(sending)
        await asyncio.sleep(0)
        time.sleep(0.8)  # both ends run in this thread: this is the busy server
        assert [getattr(o, "reason", None) for o in await outcomes] == [Reason.DEADLINE_EXCEEDED, None]
        assert servicer.amounts == [1, 3]


async def test_a_call_that_expires_on_its_way_is_not_carried_out():
    servicer = Credits()
    async with (
        serving(servicer) as server,
        proxying(server.port) as proxy,
        calling(proxy.port, attempts=1) as client,
    ):
        assert await reason_of(client, 1) is None
        proxy.latency_seconds = 0.5
        late = [asyncio.create_task(reason_of(client, 2, seconds=0.4)) for _ in range(3)]
        assert {await each for each in late} == {Reason.DEADLINE_EXCEEDED}
        # This one arrives after all others, in time.
        assert await reason_of(client, 3, seconds=10.0) is None
        assert servicer.amounts == [1, 3]


async def test_impatient_callers_cannot_shut_the_others_out():
    servicer = Credits()
    servicer.gate = asyncio.Event()
    async with serving(servicer) as server, calling(server.port, attempts=1) as client:
        impatient = (client.call_many(ADJUST, [(adjust(1), call(seconds=0.3))]) for _ in range(20))
        for (outcome,) in await asyncio.gather(*impatient):
            assert outcome.reason is Reason.DEADLINE_EXCEEDED
        servicer.gate.set()
        assert await reason_of(client) is None


async def test_an_open_breaker_refuses_at_once_and_costs_no_retries():
    async with serving() as server:
        client = upstream_to(server.port)
    while not client.breaker_open:
        assert await reason_of(client) is Reason.UNAVAILABLE
    budget = client._budget._tokens
    with pytest.raises(ServiceError) as caught:
        await client.call(ADJUST, adjust(1), call())
    assert caught.value.reason is Reason.UNAVAILABLE
    assert caught.value.retry_after_seconds
    (outcome,) = await client.call_many(ADJUST, [(adjust(1), call())])
    assert outcome.reason is Reason.UNAVAILABLE
    assert client._budget._tokens >= budget
    await client.close()


async def test_a_full_outage_gets_few_tries_beyond_the_calls_themselves():
    servicer = Credits()
    servicer.unavailable_times = 1_000_000
    async with serving(servicer) as server, calling(server.port) as client:
        for _ in range(40):
            outcomes = await client.call_many(ADJUST, [(adjust(1), call())] * 10)
            assert {outcome.reason for outcome in outcomes} == {Reason.UNAVAILABLE}
        assert 400 < len(servicer.amounts) <= 400 + 40 + 20


async def test_a_wrong_token_stays_an_answer_however_many_try_it_at_once():
    large = "x" * 100_000  # the refusal comes while it is being written
    async with serving() as server, calling(server.port, token="guess", attempts=1) as client:
        assert {await reason_of(client) for _ in range(10)} == {Reason.INTERNAL}
        for _ in range(10):
            outcomes = await asyncio.gather(
                *(client.call_many(ADJUST, [(adjust(1, large), call())]) for _ in range(20))
            )
            assert {outcome.reason for (outcome,) in outcomes} == {Reason.INTERNAL}
        assert not client.breaker_open


async def test_a_method_that_the_other_process_does_not_know_yet_is_unavailable_and_says_nothing_else():
    async with (
        serving(handlers=license_handlers()) as server,
        calling(server.port, attempts=1) as client,
    ):
        assert {await reason_of(client) for _ in range(10)} == {Reason.UNAVAILABLE}
        assert not client.breaker_open


@pytest.mark.parametrize("together", [False, True])
async def test_a_write_that_fails_is_retried_as_any_missing_answer(monkeypatch, together):
    servicer = Credits()
    async with serving(servicer) as server, calling(server.port) as client:
        lines = client._carrier._lines
        exchange, failures = lines.exchange, 2

        async def failing(payload, **options):
            nonlocal failures
            if failures:
                failures -= 1
                raise grpc.aio.AioRpcError(
                    grpc.StatusCode.INTERNAL,
                    grpc.aio.Metadata(),
                    grpc.aio.Metadata(),
                    "Internal error from Core",
                )
            return await exchange(payload, **options)

        monkeypatch.setattr(lines, "exchange", failing)
        if together:
            (outcome,) = await client.call_many(ADJUST, [(adjust(7), call())])
        else:
            outcome = await client.call(ADJUST, adjust(7), call())
        assert outcome.message.balance == 7
        assert servicer.amounts == [7]


async def test_a_refusal_of_a_stream_keeps_its_details_however_many_they_are():
    violations = [
        FieldViolation(f"questions[{n}].prompt", "must be at most 2000 characters") for n in range(100)
    ]

    def refusing(item):
        raise ServiceError(Reason.INVALID_ARGUMENT, "x" * 2000, violations=violations)

    async def unreached(item):
        yield item

    handlers = [
        streamed(WATCH, refusing, unreached, unrendered) if each.method.path == WATCH else each
        for each in license_handlers()
    ]
    async with serving(handlers=handlers) as server, calling(server.port) as client:
        with pytest.raises(ServiceError) as caught:
            await anext(client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), call(roles=("service",))))
        assert caught.value.reason is Reason.INVALID_ARGUMENT
        assert list(caught.value.violations) == violations


async def test_an_upstream_that_is_something_else_is_no_answer():
    """A port that speaks no gRPC, as after a mistake in the configuration."""

    async def speak(reader, writer):
        writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server, calling(server.sockets[0].getsockname()[1], attempts=1) as client:
        while not client.breaker_open:
            assert await reason_of(client) in {Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED}


@pytest.mark.parametrize(
    "answer", [b"\xff", b"", b"\x0a\x00\x0a\x00"], ids=["cut short", "too few", "too many"]
)
async def test_an_answer_that_does_not_fit_its_message_is_no_answer(monkeypatch, answer):
    monkeypatch.setattr("chassis.rpc.server._carried", lambda *_: answer)
    async with serving() as server, calling(server.port, attempts=1) as client:
        assert {await reason_of(client) for _ in range(5)} == {Reason.UNAVAILABLE}
        assert client.breaker_open_for(ADJUST)
        assert not client.breaker_open


async def test_a_stream_that_fails_says_nothing_about_the_bug():
    async def broken(item):
        yield licenses_pb2.WatchLicensesResponse(sequence=1)
        raise RuntimeError("password=hunter2")

    handlers = [
        streamed(WATCH, unconverted, broken, unrendered) if each.method.path == WATCH else each
        for each in license_handlers()
    ]
    async with serving(handlers=handlers) as server, calling(server.port) as client:
        watch = client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), call(roles=("service",)))
        assert (await anext(watch)).sequence == 1
        with pytest.raises(ServiceError) as caught:
            await anext(watch)
        assert caught.value.reason is Reason.INTERNAL
        assert "hunter2" not in repr(caught.value.__cause__)
        assert not client.breaker_open


async def test_one_call_is_not_kept_waiting_for_the_pause_of_another():
    class Busy(Credits):
        def answer(self, item):
            return ServiceError(Reason.UNAVAILABLE, retry_after_seconds=item.request.amount / 1000)

    servicer = Busy()
    async with serving(servicer) as server, calling(server.port) as client:
        outcomes = await client.call_many(
            ADJUST, [(adjust(1), call(seconds=0.8)), (adjust(900), call(seconds=60.0))]
        )
        assert [outcome.reason for outcome in outcomes] == [Reason.UNAVAILABLE] * 2
        assert servicer.amounts == [1, 900, 900, 900]


async def test_closing_waits_for_what_is_under_way_and_refuses_what_comes_later():
    servicer = Credits()
    servicer.gate = asyncio.Event()
    async with serving(servicer) as server:
        client = upstream_to(server.port, lanes=1)
        under_way = asyncio.create_task(reason_of(client, 1))
        many = asyncio.create_task(client.call_many(ADJUST, [(adjust(2), call())]))
        await eventually(lambda: len(servicer.batches) == 2)
        waiting = asyncio.create_task(reason_of(client, 3))
        await eventually(lambda: client.waiting_calls)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        assert await reason_of(client, 4) is Reason.UNAVAILABLE
        servicer.gate.set()
        await closing
        assert await under_way is None
        assert await waiting is None
        assert (await many)[0].message.balance == 2
        assert await reason_of(client, 5) is Reason.UNAVAILABLE
        (outcome,) = await client.call_many(ADJUST, [(adjust(6), call())])
        assert outcome.reason is Reason.UNAVAILABLE
        with pytest.raises(ServiceError) as caught:
            await anext(client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), call(roles=("service",))))
        assert caught.value.reason is Reason.UNAVAILABLE
        assert sorted(servicer.amounts) == [1, 2, 3]


async def test_closing_that_is_cut_short_still_answers_everyone():
    servicer = Credits()
    servicer.gate = asyncio.Event()
    async with serving(servicer, endless=True) as server:
        client = upstream_to(server.port, lanes=1)
        watch = client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), call(roles=("service",)))
        assert [(await anext(watch)).sequence for _ in range(3)] == [1, 2, 3]
        watching = asyncio.create_task(anext(watch))
        under_way = asyncio.create_task(reason_of(client, 1, seconds=60))
        many = asyncio.create_task(client.call_many(ADJUST, [(adjust(2), call(seconds=60))]))
        await eventually(lambda: len(servicer.batches) == 2)
        waiting = asyncio.create_task(reason_of(client, 3, seconds=60))
        await eventually(lambda: client.waiting_calls)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.close(), 0.1)
        async with asyncio.timeout(10):
            assert await under_way is Reason.UNAVAILABLE
            assert await waiting is Reason.UNAVAILABLE
            assert (await many)[0].reason is Reason.UNAVAILABLE
            with pytest.raises(ServiceError) as caught:
                await watching
            assert caught.value.reason is Reason.UNAVAILABLE


async def test_stopping_lets_what_is_under_way_finish_and_ends_the_streams_at_once():
    servicer = Credits()
    servicer.gate = asyncio.Event()
    async with serving(servicer, endless=True) as server, calling(server.port, attempts=1) as client:
        watch = client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), call(roles=("service",)))
        assert [(await anext(watch)).sequence for _ in range(3)] == [1, 2, 3]
        under_way = asyncio.create_task(reason_of(client, 1))
        await eventually(lambda: servicer.batches)
        stopping = asyncio.create_task(server.stop(grace_seconds=120))
        with pytest.raises(ServiceError) as caught:
            await anext(watch)
        assert caught.value.reason is Reason.UNAVAILABLE
        assert not stopping.done()
        assert await reason_of(client, 2) is Reason.UNAVAILABLE
        servicer.gate.set()
        assert await under_way is None
        await asyncio.wait_for(stopping, 30)
        assert servicer.amounts == [1]


async def test_stopping_without_patience_tells_the_callers():
    servicer = Credits()
    servicer.gate = asyncio.Event()
    async with serving(servicer) as server, calling(server.port, attempts=1) as client:
        under_way = asyncio.create_task(reason_of(client, 1))
        await eventually(lambda: servicer.batches)
        await server.stop(grace_seconds=0)
        assert await under_way is Reason.UNAVAILABLE


async def test_calls_that_run_out_of_time_are_counted_and_leave_the_count_of_those_in_flight():
    servicer = Credits()
    servicer.gate = asyncio.Event()
    metrics = Metrics(service="test")
    async with serving(servicer, metrics=metrics) as server, calling(server.port) as client:
        assert await reason_of(client, seconds=0.3) is Reason.DEADLINE_EXCEEDED

        def counted() -> bool:
            page = metrics.render().decode()
            return (
                f'homeroom_call_seconds_count{{code="CANCELLED",method="{ADJUST}"}} 1.0' in page
                and "homeroom_requests_in_flight 0.0" in page
            )

        await eventually(counted)
