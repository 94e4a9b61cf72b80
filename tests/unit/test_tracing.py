"""Sampled requests leave complete traces, and the others leave nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chassis.telemetry.span_export import FileSpanExporter
from chassis.telemetry.tracing import SpanKind, Tracing, current_batch

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def trace_file(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


@pytest.fixture
async def tracing(trace_file: Path) -> AsyncIterator[Tracing]:
    tracing = Tracing(service="session_service", version="1.2.3", sample_ratio=1.0, trace_file=trace_file)
    yield tracing
    await tracing.close()


def read(path: Path) -> dict[str, dict[str, Any]]:
    spans = [json.loads(line) for line in path.read_text().splitlines()]
    by_name = {span["name"]: span for span in spans}
    assert len(by_name) == len(spans)
    return by_name


async def test_a_sampled_request_continues_the_callers_trace(tracing: Tracing, trace_file: Path) -> None:
    with tracing.begin("CreateSession", traceparent=SAMPLED, kind=SpanKind.SERVER) as span:
        assert span.sampled
        span.set("homeroom.batch", 7)
    await tracing.flush()
    recorded = read(trace_file)["CreateSession"]
    assert recorded["trace_id"] == TRACE
    assert recorded["parent_span_id"] == PARENT
    assert recorded["kind"] == "SERVER"
    assert recorded["service"] == "session_service"
    assert recorded["attributes"] == {"homeroom.batch": 7}
    assert recorded["status"] == "UNSET"
    assert 0 < recorded["start_ns"] <= recorded["end_ns"]
    assert span.traceparent == f"00-{TRACE}-{recorded['span_id']}-01"


async def test_the_span_of_the_next_process_is_a_child_of_ours(tracing: Tracing, trace_file: Path) -> None:
    with tracing.begin("first", traceparent="", kind=SpanKind.SERVER) as first:
        tracing.begin("second", traceparent=first.traceparent, kind=SpanKind.SERVER).end()
    await tracing.flush()
    spans = read(trace_file)
    assert spans["first"]["parent_span_id"] is None
    assert spans["second"]["parent_span_id"] == spans["first"]["span_id"]
    assert spans["second"]["trace_id"] == spans["first"]["trace_id"]


async def test_an_unsampled_request_is_passed_on_and_not_recorded(tracing: Tracing, trace_file: Path) -> None:
    with tracing.begin("quiet", traceparent=UNSAMPLED) as span:
        span.set("a", 1)
        span.error("unseen")
        span.add_link(SAMPLED)
        assert not span.sampled
        assert span.traceparent == UNSAMPLED
    await tracing.flush()
    assert trace_file.read_text() == ""


async def test_a_request_that_the_gateway_did_not_sample_is_not_sampled_later(trace_file: Path) -> None:
    edge = Tracing(service="gateway", version="1", sample_ratio=0.0, trace_file=trace_file)
    behind = Tracing(service="session_service", version="1", sample_ratio=1.0, trace_file=trace_file)
    sent_on = edge.begin("start", traceparent="").traceparent
    assert sent_on
    assert not behind.begin("start", traceparent=sent_on).sampled
    await edge.close()
    await behind.close()


@pytest.mark.parametrize(("draw", "sampled"), [(0.2499, True), (0.25, False), (0.9, False)])
async def test_the_gateway_samples_by_the_ratio(
    trace_file: Path, monkeypatch: pytest.MonkeyPatch, draw: float, sampled: bool
) -> None:
    tracing = Tracing(service="gateway", version="1", sample_ratio=0.25, trace_file=trace_file)
    monkeypatch.setattr("random.random", lambda: draw)
    assert tracing.begin("start", traceparent="").sampled is sampled
    await tracing.close()


@pytest.mark.parametrize("incoming", ["", SAMPLED, UNSAMPLED])
async def test_without_an_exporter_nothing_is_recorded_and_everything_is_passed_on(incoming: str) -> None:
    tracing = Tracing(service="gateway", version="1", sample_ratio=1.0)
    span = tracing.begin("start", traceparent=incoming)
    assert not span.sampled
    assert span.traceparent == incoming
    await tracing.flush()
    await tracing.close()


@pytest.mark.parametrize(
    "malformed",
    [
        "garbage",
        SAMPLED[:-1],
        SAMPLED + "\n",
        SAMPLED + "-extra",
        SAMPLED.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        "x" * 100_000,
    ],
)
async def test_a_malformed_traceparent_counts_as_none(trace_file: Path, malformed: str) -> None:
    tracing = Tracing(service="gateway", version="1", sample_ratio=0.0, trace_file=trace_file)
    span = tracing.begin("start", traceparent=malformed)
    assert not span.sampled
    assert span.traceparent != malformed
    assert len(span.traceparent) == 55
    await tracing.close()


async def test_the_known_parts_of_a_later_header_version_are_read(tracing: Tracing, trace_file: Path) -> None:
    tracing.begin("later", traceparent=f"01-{TRACE}-{PARENT}-01-more").end()
    assert tracing.begin("quiet", traceparent=f"01-{TRACE}-{PARENT}-00-more").traceparent.endswith("-00")
    await tracing.flush()
    assert read(trace_file)["later"]["parent_span_id"] == PARENT


async def test_an_error_and_an_exception_mark_the_span(tracing: Tracing, trace_file: Path) -> None:
    refused = tracing.begin("refused", traceparent="")
    refused.error("DAILY_LIMIT_REACHED")
    refused.end()
    with pytest.raises(KeyError), tracing.begin("broken", traceparent=""):
        raise KeyError("secret words")
    await tracing.flush()
    spans = read(trace_file)
    assert (spans["refused"]["status"], spans["refused"]["status_description"]) == (
        "ERROR",
        "DAILY_LIMIT_REACHED",
    )
    assert (spans["broken"]["status"], spans["broken"]["status_description"]) == ("ERROR", "KeyError")
    assert "secret words" not in trace_file.read_text()


async def test_a_replay_points_to_the_original(tracing: Tracing, trace_file: Path) -> None:
    with tracing.begin("replay", traceparent="", links=[SAMPLED, "garbage"]) as span:
        span.add_link(f"00-{'1' * 32}-{'2' * 16}-01")
        span.add_link("")
    await tracing.flush()
    assert [(link["trace_id"], link["span_id"]) for link in read(trace_file)["replay"]["links"]] == [
        (TRACE, PARENT),
        ("1" * 32, "2" * 16),
    ]


async def test_a_batch_without_sampled_requests_has_no_spans(tracing: Tracing) -> None:
    quiet = [tracing.begin("quiet", traceparent=UNSAMPLED) for _ in range(3)]
    assert current_batch() is None
    with tracing.batch(quiet):
        assert current_batch() is None


async def test_a_query_of_a_batch_is_found_from_every_sampled_request(
    tracing: Tracing, trace_file: Path
) -> None:
    quiet = tracing.begin("quiet", traceparent=UNSAMPLED)
    first = tracing.begin("first", traceparent="")
    second = tracing.begin("second", traceparent="")
    with tracing.batch([quiet, first, second]):
        batch = current_batch()
        assert batch is not None
        with batch.span("INSERT sessions", {"db.system.name": "postgresql"}) as query:
            query.set("rows", 3)
    assert current_batch() is None
    for span in (quiet, first, second):
        span.end()
    await tracing.flush()

    spans = read(trace_file)
    assert spans.keys() == {"first", "second", "INSERT sessions"}
    recorded = spans["INSERT sessions"]
    assert recorded["trace_id"] == spans["first"]["trace_id"]
    assert recorded["parent_span_id"] == spans["first"]["span_id"]
    assert recorded["kind"] == "INTERNAL"
    assert recorded["attributes"] == {"db.system.name": "postgresql", "rows": 3}
    assert [link["span_id"] for link in recorded["links"]] == [spans["second"]["span_id"]]
    assert [link["span_id"] for link in spans["second"]["links"]] == [recorded["span_id"]]
    assert spans["first"]["links"] == []


async def test_work_inside_a_batch_span_becomes_its_child_also_in_another_task(
    tracing: Tracing, trace_file: Path
) -> None:
    async def inner() -> None:
        batch = current_batch()
        assert batch is not None
        with batch.span("inner"):
            pass

    request = tracing.begin("request", traceparent="")
    with tracing.batch([request]):
        batch = current_batch()
        assert batch is not None
        with batch.span("outer"):
            await asyncio.create_task(inner())
        with batch.span("after"):
            pass
    request.end()
    await tracing.flush()
    spans = read(trace_file)
    assert spans["inner"]["parent_span_id"] == spans["outer"]["span_id"]
    assert spans["outer"]["parent_span_id"] == spans["request"]["span_id"]
    assert spans["after"]["parent_span_id"] == spans["request"]["span_id"]


async def test_a_batch_span_that_fails_is_marked_and_the_batch_stays_the_same(
    tracing: Tracing, trace_file: Path
) -> None:
    with tracing.batch([tracing.begin("request", traceparent="")]):
        batch = current_batch()
        assert batch is not None
        with pytest.raises(ValueError), batch.span("broken"):
            raise ValueError
        assert current_batch() is batch
    await tracing.flush()
    assert read(trace_file)["broken"]["status"] == "ERROR"


async def test_a_task_that_outlives_the_request_that_started_it_does_not_keep_its_batch(
    tracing: Tracing,
) -> None:
    seen: list[object] = []

    async def lane() -> None:
        seen.append(current_batch())
        with tracing.batch([tracing.begin("quiet", traceparent=UNSAMPLED)]):
            seen.append(current_batch())

    with tracing.batch([tracing.begin("request", traceparent="")]):
        task = asyncio.create_task(lane())
        inherited = current_batch()
    await task
    assert seen == [inherited, None]


async def test_closing_exports_the_ended_spans_and_stops_recording(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on demand" / "spans.jsonl"
    tracing = Tracing(service="gateway", version="1", sample_ratio=1.0, trace_file=path)
    late = tracing.begin("late", traceparent="")
    tracing.begin("done", traceparent="").end()
    await tracing.close()
    late.end()
    assert not tracing.begin("after", traceparent="").sampled
    assert not tracing.begin("after", traceparent=SAMPLED).sampled
    await tracing.close()
    assert read(path).keys() == {"done"}


async def test_two_processes_may_write_one_file(trace_file: Path) -> None:
    writers = [
        Tracing(service=f"s{number}", version="1", sample_ratio=1.0, trace_file=trace_file)
        for number in (1, 2)
    ]
    for turn in range(300):
        for writer in writers:
            writer.begin(f"span {turn}", traceparent="").end()
    await asyncio.gather(*(writer.close() for writer in writers))
    services = [json.loads(line)["service"] for line in trace_file.read_text().splitlines()]
    assert (services.count("s1"), services.count("s2")) == (300, 300)


async def test_a_full_file_is_moved_away_once_by_the_processes_that_share_it(
    trace_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "chassis.telemetry.tracing.FileSpanExporter", lambda path: FileSpanExporter(path, file_bytes_max=1)
    )
    writers = [
        Tracing(service=f"s{number}", version="1", sample_ratio=1.0, trace_file=trace_file)
        for number in (1, 2)
    ]
    for name, writer in zip(("a", "b", "c"), (writers[0], writers[1], writers[0]), strict=True):
        writer.begin(name, traceparent="").end()
        await writer.flush()
    for writer in writers:
        await writer.close()
    assert read(trace_file).keys() == {"c"}
    assert read(trace_file.with_name("spans.jsonl.1")).keys() == {"b"}


@pytest.mark.parametrize("removed", [True, False])
async def test_a_file_that_was_moved_or_removed_is_begun_anew(
    tracing: Tracing, trace_file: Path, removed: bool
) -> None:
    tracing.begin("before", traceparent="").end()
    await tracing.flush()
    if removed:
        trace_file.unlink()
    else:
        trace_file.rename(trace_file.with_name("rotated"))
    tracing.begin("after", traceparent="").end()
    await tracing.flush()
    assert read(trace_file).keys() == {"after"}


@pytest.mark.parametrize("path", ["", "/", "/custom/v1/traces"])
async def test_spans_reach_a_collector_over_http(path: str) -> None:
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    async def collect(request: web.BaseRequest) -> web.Response:
        received.append((request.path, ExportTraceServiceRequest.FromString(await request.read())))
        return web.Response(content_type="application/x-protobuf")

    runner = web.ServerRunner(web.Server(collect))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
        tracing = Tracing(service="gateway", version="1", sample_ratio=1.0, otlp_endpoint=endpoint)
        tracing.begin("over http", traceparent=SAMPLED).end()
        await tracing.close()
    finally:
        await runner.cleanup()
    [(asked, request)] = received
    assert asked == (path if len(path) > 1 else "/v1/traces")
    [span] = request.resource_spans[0].scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("over http", TRACE)
