"""Server-streaming methods over HTTP: the server-sent events that a client reads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from tests.gateway.backend import Backend
from tests.gateway.crowds import counted, head
from tests.gateway.running import Gateway, running_gateway
from tests.gateway.streams.source import METHODS, TOLD, Source, counting
from tests.gateway.tokens import IdentityProvider
from tests.support.waiting import eventually


async def test_each_message_is_an_event_with_its_id_and_one_line_of_json(
    gateway: Gateway, backend: Backend
) -> None:
    source = backend.streams["Watch"] = Source()
    source.tell(TOLD(at="a", number=1), TOLD(at="b", note={"text": "two\nlines"}), None)
    async with gateway.stream("/v1/watch") as stream:
        assert stream.status == 200
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-store"
        assert stream.headers["X-Request-Id"]
        assert stream.headers["Connection"] == "close"
        events = await stream.rest()
    assert [(event.name, event.id) for event in events] == [("message", "a"), ("message", "b"), ("end", "b")]
    assert events[0].data == {"at": "a", "number": 1}
    assert events[1].data == {"at": "b", "number": 0, "note": {"text": "two\nlines"}}


async def test_a_oneof_names_the_events_and_an_event_may_have_an_id_alone(
    gateway: Gateway, backend: Backend
) -> None:
    source = backend.streams["WatchNamed"] = Source()
    source.tell(TOLD(note={"text": "n"}), TOLD(other={"text": "o"}), TOLD(), None)
    async with gateway.stream("/v1/watch-named") as stream:
        events = await stream.rest()
        assert stream.comments == 1
    assert [(event.name, event.data) for event in events] == [
        ("note", {"text": "n"}),
        ("other", {"text": "o"}),
        ("end", {}),
    ]


async def test_the_last_event_id_fills_the_field_that_the_contract_names(
    gateway: Gateway, backend: Backend
) -> None:
    backend.streams["Watch"] = counting(2)
    async with gateway.stream("/v1/watch") as stream:
        await stream.rest()
    last = stream.last_id
    async with gateway.stream("/v1/watch?aString=0", headers={"Last-Event-ID": last}) as stream:
        assert [event.id for event in await stream.rest()][:2] == ["3", "4"]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (b"Last-Event-ID: 1\r\nLast-Event-ID: 2\r\n", b"Last-Event-ID"),
        (b"Last-Event-ID: \xff\r\n", b"aString"),
    ],
    ids=["two", "not UTF-8"],
)
async def test_a_last_event_id_that_cannot_be_read_is_refused(
    gateway: Gateway, lines: bytes, named: bytes
) -> None:
    text = head(gateway, method="GET", path="/v1/watch", more="Connection: close\r\n")
    answer = await gateway.raw(text.removesuffix(b"\r\n") + lines + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert named in answer


async def test_a_refusal_before_the_first_message_is_a_problem_with_its_status(
    gateway: Gateway, backend: Backend
) -> None:
    source = backend.streams["Watch"] = Source()
    source.tell(ServiceError(Reason.NOT_FOUND, "There is no such thing"))
    answer = await gateway.request("GET", "/v1/watch")
    assert (answer.status, answer.reason) == (404, "NOT_FOUND")
    assert gateway.parts.admission.in_flight == 0


async def test_a_failure_in_mid_stream_is_a_last_event(gateway: Gateway, backend: Backend) -> None:
    source = backend.streams["Watch"] = Source()
    source.tell(TOLD(at="a"), ServiceError(Reason.UNAVAILABLE, "The database is away"))
    async with gateway.stream("/v1/watch") as stream:
        first, last = await stream.rest()
    assert first.id == "a"
    assert last.name == "problem"
    assert last.data["reason"] == "UNAVAILABLE"
    assert last.data["status"] == 503
    assert last.data["requestId"] == stream.headers["X-Request-Id"]
    assert last.data["instance"] == "/v1/watch"


async def test_a_stream_without_messages_ends_at_once(gateway: Gateway, backend: Backend) -> None:
    del backend
    async with gateway.stream("/v1/watch") as stream:
        assert [event.name for event in await stream.rest()] == ["end"]


async def test_a_stream_needs_its_roles_and_a_valid_request(gateway: Gateway, backend: Backend) -> None:
    assert (await gateway.request("GET", "/v1/watch", token=None)).status == 401
    assert (await gateway.request("POST", "/v1/run", body={})).reason == "PERMISSION_DENIED"
    admin = gateway.identity.token("root", roles=("admin",))
    assert (await gateway.request("POST", "/v1/run", token=admin, body={"x": 1})).reason == "INVALID_ARGUMENT"
    assert backend.items == []
    ran = await gateway.request("POST", "/v1/run", token=admin, body={"aInt32": 7})
    assert ran.body == b"event: end\ndata: {}\n\n"
    assert backend.only_item.request.a_int32 == 7
    assert backend.only_item.user_id == "root"


async def test_head_answers_the_headers_and_ends_the_call(gateway: Gateway, backend: Backend) -> None:
    source = backend.streams["Watch"] = Source()
    source.tell(TOLD(at="a"))
    async with gateway.stream("/v1/watch", method="HEAD") as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
    await asyncio.wait_for(source.cancelled.wait(), 10)


async def test_an_old_client_reads_the_events_without_chunks(gateway: Gateway, backend: Backend) -> None:
    backend.streams["Watch"] = counting(1)
    request = head(gateway, method="GET", path="/v1/watch").replace(b"HTTP/1.1", b"HTTP/1.0")
    answer = await gateway.raw(request)
    assert answer.startswith(b"HTTP/1.0 200")
    assert answer.partition(b"\r\n\r\n")[2].startswith(b"id: 1\ndata: ")


async def test_quiet_streams_send_comments(gateway: Gateway, backend: Backend) -> None:
    source = backend.streams["Watch"] = Source()
    source.tell(TOLD(at="a"))
    async with gateway.stream("/v1/watch") as stream:
        await stream.next()
        reading = asyncio.create_task(stream.next())
        await eventually(lambda: stream.comments >= 3)
        source.tell(TOLD(at="b"))
        told = await reading
        assert told is not None
        assert told.id == "b"


async def test_streams_are_counted_with_their_code_and_have_a_span(
    backend: Backend, identity: IdentityProvider, tmp_path: Any
) -> None:
    file = tmp_path / "trace.jsonl"
    async with running_gateway(
        upstream_port=backend.port,
        identity=identity,
        more_methods=METHODS,
        trace_file=file,
        trace_sample_ratio=1.0,
    ) as gateway:
        backend.streams["Watch"] = counting(1)
        async with gateway.stream("/v1/watch", headers={"X-Request-Id": "mine"}) as stream:
            assert stream.headers["X-Request-Id"] == "mine"
            await stream.rest()
        path = METHODS[0].path
        assert await counted(gateway, "call_seconds_count", code="OK", method=path) == 1
    spans = file.read_text()
    assert "GET /v1/watch" in spans
    assert path in spans
    assert backend.only_item.context.request_id == "mine"


async def test_the_document_tells_of_the_stream(gateway: Gateway) -> None:
    document = (await gateway.request("GET", "/openapi.json", token=None)).json()
    watch = document["paths"]["/v1/watch"]["get"]
    assert {"$ref": "#/components/parameters/Last-Event-ID"} in watch["parameters"]
    assert list(watch["responses"]["200"]["content"]) == ["text/event-stream"]
    events = watch["responses"]["200"]["content"]["text/event-stream"]["x-events"]
    assert set(events) == {"message", "problem"}
    named = document["paths"]["/v1/watch-named"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    assert set(named["x-events"]) == {"note", "other", "problem"}
    assert "event: note\ndata: {" in named["example"]
