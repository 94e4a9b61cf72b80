"""What of a request's trace the gateway takes up, records and passes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chassis.batch import Reply
from chassis.errors import Reason, ServiceError
from protos.session.v1 import sessions_pb2
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway, running_gateway

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-b7ad6b7169203331-01"
NOT_SAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"


async def spans_after(file: Path, gateway: Gateway) -> dict[str, dict[str, Any]]:
    await gateway.parts.tracing.flush()
    spans = [json.loads(line) for line in file.read_text().splitlines()]
    return {span["name"]: span for span in spans}


async def test_a_callers_trace_goes_on(gateway: Gateway, backend: Backend, tmp_path: Path) -> None:
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
