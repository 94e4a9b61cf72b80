"""What a client sends again, and what it keeps for others: attempts, budgets, and bounds of its upstream."""

from __future__ import annotations

import asyncio
import json

import pytest

from chassis.errors import Reason, ServiceError
from chassis.telemetry.metrics import Metrics
from protos.subscription.v1 import credits_pb2
from tests.support.rpc import (
    ADJUST,
    LIST_MINE,
    Credits,
    adjust,
    call,
    calling,
    reason_of,
    serving,
    tracing,
)
from tests.support.waiting import eventually


def shown(metrics: Metrics, name: str, **labels: str) -> float:
    """The value of a series on the page; 0 when it is not there."""
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    start = f"homeroom_{name}{{{inside}}} "
    values = [
        line.removeprefix(start) for line in metrics.render().decode().splitlines() if line.startswith(start)
    ]
    return float(values[0]) if values else 0.0


@pytest.mark.parametrize("together", [False, True])
async def test_each_attempt_is_a_span_and_is_counted(tmp_path, together):
    servicer, metrics, spans = Credits(), Metrics(service="test"), tmp_path / "spans.jsonl"
    servicer.unavailable_times = 2
    traced = tracing(spans, ratio=1.0)
    async with serving(servicer) as server, calling(server.port, metrics=metrics, tracing=traced) as client:
        if together:
            (reply,) = await client.call_many(ADJUST, [(adjust(7), call())])
        else:
            reply = await client.call(ADJUST, adjust(7), call())
        assert reply.message.balance == 7
    await traced.close()
    lines = spans.read_text().splitlines()
    attempts = [json.loads(line)["attributes"].get("homeroom.attempt") for line in lines]
    assert attempts == [None, 2, 3]
    assert shown(metrics, "upstream_call_attempts_bucket", method=ADJUST, le="2.0") == 0
    assert shown(metrics, "upstream_call_attempts_bucket", method=ADJUST, le="3.0") == 1
    assert shown(metrics, "upstream_retries_total", method=ADJUST, reason="UNAVAILABLE") == 2


@pytest.mark.parametrize("together", [False, True])
async def test_a_refusal_that_says_to_wait_beyond_the_deadline_is_final(together):
    servicer, metrics = Credits(), Metrics(service="test")
    servicer.unavailable_times, servicer.retry_after_seconds = 1, 5.0
    async with serving(servicer) as server, calling(server.port, metrics=metrics) as client:
        if together:
            (outcome,) = await client.call_many(ADJUST, [(adjust(7), call(seconds=2.0))])
        else:
            with pytest.raises(ServiceError) as caught:
                await client.call(ADJUST, adjust(7), call(seconds=2.0))
            outcome = caught.value
        assert (outcome.reason, outcome.retry_after_seconds) == (Reason.UNAVAILABLE, 5.0)
        assert len(servicer.batches) == 1
        assert shown(metrics, "upstream_retries_forgone_total", method=ADJUST, cause="deadline") == 1


async def test_a_call_that_shall_wait_beyond_its_deadline_takes_no_retry_from_its_neighbours():
    class Mixed(Credits):
        def answer(self, item):
            if item.request.amount == 30:
                return ServiceError(Reason.UNAVAILABLE, retry_after_seconds=30.0)
            if len(self.batches) == 1:
                return ServiceError(Reason.UNAVAILABLE, retry_after_seconds=0.001)
            return super().answer(item)

    servicer, metrics = Mixed(), Metrics(service="test")
    async with serving(servicer) as server, calling(server.port, metrics=metrics) as client:
        polite, waits = await client.call_many(ADJUST, [(adjust(7), call()), (adjust(30), call())])
        assert polite.message.balance == 7
        assert (waits.reason, waits.retry_after_seconds) == (Reason.UNAVAILABLE, 30.0)
        assert shown(metrics, "upstream_retries_forgone_total", method=ADJUST, cause="deadline") == 1
        assert servicer.amounts == [7, 30, 7]


async def test_an_empty_budget_is_counted():
    servicer, metrics = Credits(), Metrics(service="test")
    servicer.unavailable_times = 1_000
    async with serving(servicer) as server, calling(server.port, metrics=metrics) as client:
        outcomes = await client.call_many(ADJUST, [(adjust(1), call())] * 40)
        assert {outcome.reason for outcome in outcomes} == {Reason.UNAVAILABLE}
        assert shown(metrics, "upstream_retries_forgone_total", method=ADJUST, cause="budget") == 40
        assert shown(metrics, "upstream_retries_total", method=ADJUST, reason="UNAVAILABLE") == 20
        assert shown(metrics, "upstream_call_attempts_count", method=ADJUST) == 40


async def test_a_slow_upstream_takes_only_its_part_of_the_caller():
    slow, well = Credits(), Credits()
    slow.gate = asyncio.Event()
    async with (
        serving(slow) as slow_server,
        serving(well) as well_server,
        calling(slow_server.port, in_flight_max=8, attempts=1) as to_slow,
        calling(well_server.port, in_flight_max=8, attempts=1) as to_well,
    ):
        stuck = [asyncio.create_task(reason_of(to_slow)) for _ in range(5)]
        many = asyncio.create_task(to_slow.call_many(ADJUST, [(adjust(2), call())] * 10))
        await eventually(lambda: len(slow.amounts) == 8)
        assert await reason_of(to_slow) is Reason.OVERLOADED
        for _ in range(20):
            assert await reason_of(to_well) is None
        slow.gate.set()
        assert await asyncio.gather(*stuck) == [None] * 5
        reasons = [getattr(outcome, "reason", None) for outcome in await many]
        assert reasons == [None] * 3 + [Reason.OVERLOADED] * 7
        assert await reason_of(to_slow) is None


async def test_a_method_that_answers_nothing_shuts_none_of_its_neighbours_out(monkeypatch):
    monkeypatch.setattr("chassis.rpc.carrier.PATIENCE_SECONDS", 0.1)
    servicer, metrics = Credits(), Metrics(service="test")
    servicer.gate = asyncio.Event()
    async with serving(servicer) as server, calling(server.port, attempts=1, metrics=metrics) as client:
        await client.call(LIST_MINE, credits_pb2.ListMyCreditEntriesRequest(), call())  # it is connected now
        silent = (client.call_many(ADJUST, [(adjust(1), call(seconds=2.0))]) for _ in range(5))
        assert {each.reason for (each,) in await asyncio.gather(*silent)} == {Reason.DEADLINE_EXCEEDED}
        assert client.breaker_open_for(ADJUST)
        with pytest.raises(ServiceError) as caught:
            await client.call(ADJUST, adjust(1), call())
        assert (caught.value.reason, caught.value.retry_after_seconds is None) == (Reason.UNAVAILABLE, False)
        for _ in range(20):
            await client.call(LIST_MINE, credits_pb2.ListMyCreditEntriesRequest(), call())
        assert len(servicer.amounts) == 5
        assert shown(metrics, "upstream_breaker_state", upstream="credits", method=ADJUST) == 2
        assert shown(metrics, "upstream_breaker_state", upstream="credits", method="") == 0
        servicer.gate.set()

        async def answered() -> bool:
            return await reason_of(client) is None

        await eventually(answered)
        assert not client.breaker_open_for(ADJUST)
