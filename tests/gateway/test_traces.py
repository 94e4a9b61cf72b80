"""What of a request's trace the gateway takes up, records and passes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chassis.batch import Reply
from chassis.errors import Reason, ServiceError
from protos.session.v1 import sessions_pb2
from tests.gateway.backend import Backend
from tests.gateway.crowds import crowd, head
from tests.gateway.running import Gateway, running_gateway
from tests.support.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-b7ad6b7169203331-01"
NOT_SAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"


async def spans_after(file: Path, gateway: Gateway) -> dict[str, dict[str, Any]]:
    await gateway.parts.tracing.flush()
    spans = [json.loads(line) for line in file.read_text().splitlines()]
    return {span["name"]: span for span in spans}


async def test_the_trace_of_a_trusted_caller_goes_on(
    gateway: Gateway, backend: Backend, tmp_path: Path
) -> None:
    backend.answers["CreateSession"] = lambda _item: Reply(
        sessions_pb2.CreateSessionResponse(), replayed=True
    )
    file = tmp_path / "spans.jsonl"
    async with running_gateway(
        upstream_port=backend.port, identity=gateway.identity, trace_file=file
    ) as traced:
        await traced.request(
            "POST",
            "/v1/sessions",
            body={"testId": "t"},
            headers={"traceparent": SAMPLED, "X-Request-Id": "r1"},
        )
        spans = await spans_after(file, traced)
    server = spans["POST /v1/sessions"]
    client = spans["/homeroom.session.v1.SessionService/CreateSession"]
    assert TRACE in json.dumps(server)
    assert TRACE in json.dumps(client)
    assert backend.only_item.context.traceparent.startswith(f"00-{TRACE}-")
    told = json.dumps(server)
    for value in ("http.response.status_code", "201", "r1", "homeroom.replayed", "POST"):
        assert value in told


async def test_what_the_caller_does_not_record_is_not_recorded(
    gateway: Gateway, backend: Backend, tmp_path: Path
) -> None:
    file = tmp_path / "spans.jsonl"
    async with running_gateway(
        upstream_port=backend.port, identity=gateway.identity, trace_file=file
    ) as traced:
        await traced.request("GET", "/v1/stats", headers={"traceparent": NOT_SAMPLED})
        await traced.parts.tracing.flush()
        assert not file.exists() or not file.read_text()
    assert backend.only_item.context.traceparent == NOT_SAMPLED


async def test_only_our_own_fault_is_an_error_of_the_span(
    gateway: Gateway, backend: Backend, tmp_path: Path
) -> None:
    file = tmp_path / "spans.jsonl"
    async with running_gateway(
        upstream_port=backend.port, identity=gateway.identity, trace_file=file
    ) as traced:
        for reason, is_error in ((Reason.NOT_FOUND, False), (Reason.INTERNAL, True)):
            backend.answers["GetSession"] = lambda _item, reason=reason: ServiceError(reason)  # type: ignore[misc] # mypy wants no defaults
            await traced.request("GET", "/v1/sessions/s1", headers={"traceparent": SAMPLED})
            span = (await spans_after(file, traced))["GET /v1/sessions/{session_id}"]
            assert (reason.name in json.dumps(span)) == is_error
            file.write_text("")


def links_of(span: dict[str, Any]) -> str:
    return json.dumps(span.get("links"))


async def test_a_stranger_cannot_force_a_recording(
    gateway: Gateway, backend: Backend, tmp_path: Path
) -> None:
    file = tmp_path / "spans.jsonl"
    async with running_gateway(
        upstream_port=backend.port, identity=gateway.identity, trace_file=file, trace_networks=["10.0.0.0/8"]
    ) as traced:
        await traced.request("GET", "/v1/stats", headers={"traceparent": SAMPLED})
        await traced.parts.tracing.flush()
        assert not file.exists() or not file.read_text()
    assert TRACE not in backend.only_item.context.traceparent
    assert backend.only_item.context.recorded_trace == ""


@pytest.mark.parametrize("theirs", [SAMPLED, NOT_SAMPLED])
async def test_a_strangers_trace_is_linked_to_when_we_record(
    gateway: Gateway, backend: Backend, tmp_path: Path, theirs: str
) -> None:
    file = tmp_path / "spans.jsonl"
    async with running_gateway(
        upstream_port=backend.port,
        identity=gateway.identity,
        trace_file=file,
        trace_networks=(),
        trace_sample_ratio=1.0,
    ) as traced:
        await traced.request("GET", "/v1/stats", headers={"traceparent": theirs})
        span = (await spans_after(file, traced))["GET /v1/stats"]
    assert TRACE in links_of(span)
    assert TRACE not in json.dumps({name: value for name, value in span.items() if name != "links"})
    assert TRACE not in backend.only_item.context.traceparent


async def test_nothing_is_recorded_for_who_is_not_let_in(
    gateway: Gateway, backend: Backend, tmp_path: Path
) -> None:
    file = tmp_path / "spans.jsonl"
    async with running_gateway(
        upstream_port=backend.port, identity=gateway.identity, trace_file=file
    ) as traced:
        for token in (None, "forged", traced.identity.token("ada", ())):
            answer = await traced.request("GET", "/v1/stats", token=token, headers={"traceparent": SAMPLED})
            assert answer.status in {401, 403}
        await traced.parts.tracing.flush()
        assert not file.exists() or not file.read_text()
    assert not backend.items


async def test_the_span_of_a_client_that_leaves_is_ended(
    gateway: Gateway, backend: Backend, tmp_path: Path
) -> None:
    file = tmp_path / "spans.jsonl"
    async with running_gateway(
        upstream_port=backend.port, identity=gateway.identity, trace_file=file
    ) as traced:
        async with crowd(traced, 1, head(traced, length=5000, more=f"traceparent: {SAMPLED}\r\n") + b"{"):
            await eventually(lambda: traced.parts.admission._bodies._counts)

        async def recorded() -> bool:
            await traced.parts.tracing.flush()
            return file.exists() and "POST /v1/sessions" in file.read_text()

        await eventually(recorded)
    assert not backend.items
