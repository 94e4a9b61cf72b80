"""Calls between processes: the carrier, the plain unary path, and what a fault of the line becomes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import LockTimeout, OutcomeUnknown
from chassis.rpc.client import Upstream
from chassis.rpc.server import Server
from chassis.telemetry.metrics import Metrics
from protos.subscription.v1 import credits_pb2, licenses_pb2
from tests.support.rpc import (
    ADJUST,
    CREDITS,
    TOKEN,
    WATCH,
    Credits,
    adjust,
    call,
    calling,
    license_handlers,
    serving,
    tracing,
    upstream_to,
)


@pytest_asyncio.fixture
async def servicer() -> Credits:
    return Credits()


@pytest_asyncio.fixture
async def server(servicer) -> AsyncIterator[Server]:
    async with serving(servicer) as running:
        yield running


@pytest_asyncio.fixture
async def upstream(server) -> AsyncIterator[Upstream]:
    async with calling(server.port) as client:
        yield client


async def test_an_answer_comes_back_with_the_call_that_asked(upstream, servicer):
    reply = await upstream.call(ADJUST, adjust(7), call())
    assert reply.message.balance == 7
    assert not reply.replayed
    ((item,),) = servicer.batches
    assert (item.context.user_id, item.context.roles, item.context.idempotency_key) == ("ada", {"admin"}, "k")
    assert item.context.remaining_seconds() < 10.0 - 0.02


async def test_outcomes_of_one_message_keep_their_order_and_a_bad_item_hurts_no_neighbour(upstream, servicer):
    outcomes = await upstream.call_many(
        ADJUST,
        [
            (adjust(1), call()),
            (adjust(13), call()),
            (adjust(0), call()),
            (adjust(2), call(roles=("learner",))),
            (adjust(3), call(key="")),
            (adjust(4), call(seconds=0.05)),
            (adjust(5), call()),
        ],
    )
    seen = [o.reason if isinstance(o, ServiceError) else o.message.balance for o in outcomes]
    assert seen == [
        1,
        Reason.INSUFFICIENT_CREDITS,
        Reason.INVALID_ARGUMENT,
        Reason.PERMISSION_DENIED,
        Reason.IDEMPOTENCY_KEY_MISSING,
        Reason.DEADLINE_EXCEEDED,
        5,
    ]
    assert outcomes[1].metadata == {"balance": 5, "needed": 13}
    assert [v.field for v in outcomes[2].violations] == ["amount"]
    assert [len(batch) for batch in servicer.batches] == [3]


async def test_calls_gather_while_the_line_is_busy(upstream, servicer):
    servicer.gate = asyncio.Event()
    first = [asyncio.create_task(upstream.call(ADJUST, adjust(1), call())) for _ in range(2)]
    while sum(map(len, servicer.batches)) < 2:
        await asyncio.sleep(0)
    rest = [asyncio.create_task(upstream.call(ADJUST, adjust(n), call())) for n in range(100, 150)]
    await asyncio.sleep(0)
    servicer.gate.set()
    replies = await asyncio.gather(*first, *rest)
    assert [reply.message.balance for reply in replies] == [1, 1, *range(100, 150)]
    assert len(servicer.batches) <= 6


async def test_a_bug_in_a_servicer_is_an_internal_error_that_says_nothing(upstream):
    with pytest.raises(ServiceError) as caught:
        await upstream.call(ADJUST, adjust(500), call())
    assert caught.value.reason is Reason.INTERNAL
    assert "bug" not in str(caught.value)


@pytest.mark.parametrize("escaped", [OutcomeUnknown(), LockTimeout()])
async def test_what_another_try_may_settle_is_unavailable_though_the_operation_let_it_escape(
    server, servicer, monkeypatch, escaped
):
    def answer(_item):
        raise escaped

    monkeypatch.setattr(servicer, "answer", answer)
    async with calling(server.port, attempts=1) as client:
        with pytest.raises(ServiceError) as caught:
            await client.call(ADJUST, adjust(1), call())
    assert caught.value.reason is Reason.UNAVAILABLE
    assert caught.value.retry_after_seconds == pytest.approx(0.1)


async def test_a_servicer_that_miscounts_fails_its_batch(upstream):
    request = credits_pb2.ListCreditEntriesRequest(user_id="bob")
    with pytest.raises(ServiceError) as caught:
        await upstream.call(f"/{CREDITS}/ListCreditEntries", request, call())
    assert caught.value.reason is Reason.INTERNAL


async def test_a_caller_waits_no_longer_than_its_deadline(upstream, servicer):
    servicer.gate = asyncio.Event()
    patient = asyncio.create_task(upstream.call(ADJUST, adjust(1), call()))
    with pytest.raises(ServiceError) as caught:
        await upstream.call(ADJUST, adjust(2), call(seconds=0.2))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    servicer.gate.set()
    assert (await patient).message.balance == 1


async def test_unavailable_is_tried_again_with_the_same_key(upstream, servicer):
    servicer.unavailable_times = 2
    assert (await upstream.call(ADJUST, adjust(9), call(key="once"))).message.balance == 9
    assert [batch[0].context.idempotency_key for batch in servicer.batches] == ["once"] * 3


async def test_unavailable_is_tried_three_times_at_most(upstream, servicer):
    servicer.unavailable_times = 10
    with pytest.raises(ServiceError) as caught:
        await upstream.call(ADJUST, adjust(9), call())
    assert caught.value.reason is Reason.UNAVAILABLE
    assert len(servicer.batches) == 3
    (outcome,) = await upstream.call_many(ADJUST, [(adjust(9), call())])
    assert outcome.reason is Reason.UNAVAILABLE
    assert len(servicer.batches) == 6


async def test_too_many_in_flight_are_refused_at_once(upstream, servicer):
    servicer.gate = asyncio.Event()
    first = asyncio.create_task(upstream.call_many(ADJUST, [(adjust(1), call())] * 100))
    while not servicer.batches:
        await asyncio.sleep(0)
    (outcome,) = await upstream.call_many(ADJUST, [(adjust(1), call())])
    assert outcome.reason is Reason.OVERLOADED
    servicer.gate.set()
    assert len(await first) == 100


async def test_a_dead_upstream_is_unavailable_and_the_breaker_stops_asking(server):
    client = upstream_to(server.port, attempts=1)
    await server.stop(grace_seconds=0)
    reasons = []
    for _ in range(8):
        with pytest.raises(ServiceError) as caught:
            await client.call(ADJUST, adjust(1), call())
        reasons.append(caught.value.reason)
    assert set(reasons) == {Reason.UNAVAILABLE}
    assert caught.value.retry_after_seconds
    with pytest.raises(ServiceError):
        await client.check_health()
    await client.close()


async def test_the_wrong_service_token_opens_nothing(server, servicer):
    client = upstream_to(server.port, token="guess")
    with pytest.raises(ServiceError) as caught:
        await client.call(ADJUST, adjust(1), call())
    assert caught.value.reason is Reason.INTERNAL
    assert servicer.batches == []
    await client.close()


async def test_a_plain_unary_call_gets_the_rich_status(server):
    metadata = (
        ("x-homeroom-service-token", TOKEN),
        ("x-homeroom-user", "ada"),
        ("x-homeroom-roles", "admin"),
        ("idempotency-key", "k"),
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        rpc = channel.unary_unary(ADJUST, response_deserializer=credits_pb2.AdjustCreditsResponse.FromString)
        response = await rpc(adjust(7).SerializeToString(), metadata=metadata, timeout=5)
        assert response.balance == 7
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc(adjust(13).SerializeToString(), metadata=metadata, timeout=5)
        status = rpc_status.from_call(caught.value)
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.reason, info.domain, info.metadata["needed"]) == (
            "INSUFFICIENT_CREDITS",
            "homeroom",
            "13",
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc(adjust(7).SerializeToString(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_is_followed_and_ends(upstream):
    request = licenses_pb2.WatchLicensesRequest(after_sequence=40)
    service = call(roles=("service",))
    assert [m.sequence async for m in upstream.stream(WATCH, request, service)] == [41, 42, 43]
    with pytest.raises(ServiceError) as caught:
        await anext(upstream.stream(WATCH, request, call()))
    assert caught.value.reason is Reason.PERMISSION_DENIED


def test_a_service_with_a_method_without_a_handler_is_refused_at_construction():
    for handlers in (
        [handler for handler in Credits().handlers() if handler.method.path != ADJUST],
        [handler for handler in license_handlers() if handler.method.path != WATCH],
    ):
        with pytest.raises(TypeError, match=r"(AdjustCredits|WatchLicenses) has no handler"):
            Server(
                bind="127.0.0.1:0",
                handlers=handlers,
                service_token=TOKEN,
                tracing=tracing(),
                metrics=Metrics(service="test"),
            )
