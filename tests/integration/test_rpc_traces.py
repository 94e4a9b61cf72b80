"""The spans of calls between processes: their parents, and how they show retries and refusals."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from chassis.batch import Reply
from chassis.errors import ServiceError
from chassis.rpc.client import Upstream
from chassis.rpc.server import Server
from chassis.rpc.servicing import streamed
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import current_batch
from protos.subscription.v1 import credits_pb2, licenses_pb2
from tests.support.rpc import (
    ADJUST,
    WATCH,
    Credits,
    adjust,
    call,
    calling,
    license_handlers,
    serving,
    tracing,
    unconverted,
    unrendered,
)
from tests.support.waiting import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ROOT = "00f067aa0ba902b7"
SERVICE = ("service",)
SAMPLED = f"00-{TRACE}-{ROOT}-01"


class Querying(Credits):
    """Does one piece of work for the whole batch, as a query is."""

    async def adjust_credits(self, items, render):
        work = current_batch()
        if work is not None:
            with work.span("query"):
                return await super().adjust_credits(items, render)
        return await super().adjust_credits(items, render)


class Line:
    """A caller and a server that trace into one file."""

    def __init__(self, servicer, upstream: Upstream, spans) -> None:
        self.servicer = servicer
        self.upstream = upstream
        self.spans = spans


@asynccontextmanager
async def traced(tmp_path, *, client_ratio: float = 0.0, server_ratio: float = 0.0) -> AsyncIterator[Line]:
    file = tmp_path / "trace.jsonl"
    of_client, of_server = tracing(file, ratio=client_ratio), tracing(file, ratio=server_ratio)
    servicer = Querying()

    async def spans():
        await of_client.flush()
        await of_server.flush()
        return [orjson.loads(line) for line in file.read_bytes().splitlines()]

    async with (
        serving(servicer, tracing=of_server) as server,
        calling(server.port, tracing=of_client) as upstream,
    ):
        yield Line(servicer, upstream, spans)
    await of_client.close()
    await of_server.close()


def of_kind(spans, kind):
    return [span for span in spans if span["kind"] == kind]


async def test_a_call_is_a_client_span_above_a_server_span_above_its_query(tmp_path):
    async with traced(tmp_path) as line:
        await line.upstream.call(ADJUST, adjust(1), call(traceparent=SAMPLED))
        spans = await line.spans()
    (client,), (server,), (query,) = (of_kind(spans, kind) for kind in ("CLIENT", "SERVER", "INTERNAL"))
    assert [client["parent_span_id"], server["parent_span_id"], query["parent_span_id"]] == [
        ROOT,
        client["span_id"],
        server["span_id"],
    ]
    assert {span["trace_id"] for span in spans} == {TRACE}
    assert {span["name"] for span in (client, server)} == {ADJUST}


@pytest.mark.parametrize("together", [False, True])
async def test_each_try_is_a_span_of_its_own_with_what_came_of_it(tmp_path, together):
    async with traced(tmp_path) as line:
        line.servicer.unavailable_times = 2
        if together:
            await line.upstream.call_many(ADJUST, [(adjust(1), call(traceparent=SAMPLED))])
        else:
            await line.upstream.call(ADJUST, adjust(1), call(traceparent=SAMPLED))
        spans = await line.spans()
    clients = sorted(of_kind(spans, "CLIENT"), key=lambda span: span["start_ns"])
    assert [span["status_description"] for span in clients] == ["UNAVAILABLE", "UNAVAILABLE", None]
    assert {span["parent_span_id"] for span in clients} == {ROOT}
    parents = {span["parent_span_id"] for span in of_kind(spans, "SERVER")}
    assert parents == {span["span_id"] for span in clients}


async def test_every_call_of_a_message_keeps_its_own_trace(tmp_path):
    traces = [f"{n:032x}" for n in range(1, 6)]
    async with traced(tmp_path) as line:
        await line.upstream.call_many(
            ADJUST,
            [(adjust(n), call(traceparent=f"00-{trace}-{ROOT}-01")) for n, trace in enumerate(traces, 1)],
        )
        spans = await line.spans()
    for kind in ("CLIENT", "SERVER"):
        assert sorted(span["trace_id"] for span in of_kind(spans, kind)) == traces
    (query,) = of_kind(spans, "INTERNAL")
    assert sorted([query["trace_id"], *(link["trace_id"] for link in query["links"])]) == traces


async def test_a_caller_that_is_not_sampled_decides_for_everyone_behind(tmp_path):
    async with traced(tmp_path, client_ratio=0.0, server_ratio=1.0) as line:
        await line.upstream.call(ADJUST, adjust(1), call())
        await line.upstream.call_many(ADJUST, [(adjust(1), call())])
        assert await line.spans() == []
        assert all(
            re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", batch[0].context.traceparent)
            for batch in line.servicer.batches
        )


async def test_a_call_that_ran_out_of_time_leaves_spans_on_both_sides(tmp_path):
    async with traced(tmp_path) as line:
        line.servicer.gate = asyncio.Event()
        with pytest.raises(ServiceError):
            await line.upstream.call(ADJUST, adjust(1), call(seconds=0.3, traceparent=SAMPLED))

        async def both() -> bool:
            spans = await line.spans()
            return {"CLIENT", "SERVER"} <= {span["kind"] for span in spans}

        await eventually(both)
        spans = await line.spans()
    assert [span["status_description"] for span in of_kind(spans, "CLIENT")] == ["DEADLINE_EXCEEDED"]
    assert [span["status_description"] for span in of_kind(spans, "SERVER")] == ["CANCELLED"]


async def test_a_caller_that_leaves_ends_its_spans(tmp_path):
    async with traced(tmp_path) as line:
        line.servicer.gate = asyncio.Event()
        one = asyncio.create_task(line.upstream.call(ADJUST, adjust(1), call(traceparent=SAMPLED)))
        many = asyncio.create_task(
            line.upstream.call_many(ADJUST, [(adjust(n), call(traceparent=SAMPLED)) for n in (2, 3)])
        )
        await eventually(lambda: len(line.servicer.batches) == 2)
        one.cancel()
        many.cancel()
        await asyncio.wait([one, many])
        assert one.cancelled()
        assert many.cancelled()
        assert len(of_kind(await line.spans(), "CLIENT")) == 3
        line.servicer.gate.set()


async def test_a_replay_is_linked_to_the_call_it_repeats(tmp_path):
    class Replaying(Credits):
        def answer(self, item):
            stored = credits_pb2.AdjustCreditsResponse(balance=4).SerializeToString()
            return Reply(stored, replayed=True, original=f"00-{'1' * 32}-{'2' * 16}-01")

    of_server = tracing(tmp_path / "trace.jsonl")
    async with serving(Replaying(), tracing=of_server) as server, calling(server.port) as client:
        reply = await client.call(ADJUST, adjust(1), call(traceparent=SAMPLED))
    await of_server.close()
    assert (reply.message.balance, reply.replayed) == (4, True)
    (span,) = [orjson.loads(line) for line in (tmp_path / "trace.jsonl").read_bytes().splitlines()]
    assert span["attributes"]["homeroom.replayed"] is True
    assert [link["trace_id"] for link in span["links"]] == ["1" * 32]


def of_watches(metrics: Metrics) -> set[str]:
    """Each way in which streams have ended so far, and how often: `code count`."""
    pattern = rf'homeroom_calls?_seconds_count{{code="(\w+)",method="{WATCH}"}} (\S+)'
    return {" ".join(found) for found in re.findall(pattern, metrics.render().decode())}


async def test_a_stream_is_counted_with_its_code_and_has_a_span_when_it_ends(tmp_path):
    file, metrics = tmp_path / "trace.jsonl", Metrics(service="test")
    of_server = tracing(file)

    async def failing(item):
        yield licenses_pb2.WatchLicensesResponse(sequence=1)
        raise RuntimeError("a bug")

    async def watch(server: Server, *, roles: tuple[str, ...] = SERVICE) -> int:
        async with calling(server.port) as client:
            request = licenses_pb2.WatchLicensesRequest()
            context = call(roles=roles, traceparent=SAMPLED)
            return len([message async for message in client.stream(WATCH, request, context)])

    async with serving(tracing=of_server, metrics=metrics) as server:
        assert await watch(server) == 3
        with pytest.raises(ServiceError):
            await watch(server, roles=())
        assert of_watches(metrics) == {"OK 1.0", "PERMISSION_DENIED 1.0"}
    broken = [
        streamed(WATCH, unconverted, failing, unrendered) if each.method.path == WATCH else each
        for each in license_handlers()
    ]
    metrics = Metrics(service="test")
    async with serving(handlers=broken, tracing=of_server, metrics=metrics) as server:
        with pytest.raises(ServiceError):
            await watch(server)
        assert of_watches(metrics) == {"INTERNAL 1.0"}
    await of_server.close()
    spans = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert {(span["name"], span["kind"], span["trace_id"]) for span in spans} == {(WATCH, "SERVER", TRACE)}
    assert [span["status_description"] for span in spans] == [None, "PERMISSION_DENIED", "INTERNAL"]


@pytest.mark.parametrize("who", ["caller", "process"])
async def test_a_stream_that_is_broken_off_is_counted_and_its_span_ends(tmp_path, who):
    file, metrics = tmp_path / "trace.jsonl", Metrics(service="test")
    of_server = tracing(file)
    async with (
        serving(endless=True, tracing=of_server, metrics=metrics) as server,
        calling(server.port) as client,
    ):
        context = call(roles=SERVICE, traceparent=SAMPLED)
        watch = client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), context)
        assert (await anext(watch)).sequence == 1
        assert of_watches(metrics) == set()
        await (watch.aclose() if who == "caller" else server.stop(grace_seconds=0))
        await eventually(lambda: of_watches(metrics) == {"CANCELLED 1.0"})
        await watch.aclose()
    await of_server.close()
    (span,) = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert (span["name"], span["kind"], span["status_description"]) == (WATCH, "SERVER", "CANCELLED")
