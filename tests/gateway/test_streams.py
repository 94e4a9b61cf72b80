"""Server-streaming methods over HTTP: server-sent events from a real gRPC stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from gateway.admission import Limits
from gateway.overload import RoomLimits
from gateway.signing_keys import keys_from_file
from gateway.streaming.streams import StreamLimits
from protos.chassis.v1 import options_pb2
from tests.gateway.backend import Backend
from tests.gateway.crowds import assert_polite_are_served, counted, head
from tests.gateway.made_contracts import Rpc, methods
from tests.gateway.running import Gateway, running_gateway
from tests.gateway.tokens import IdentityProvider
from tests.support.waiting import eventually

METHODS = methods(
    Rpc(
        "Watch",
        [{"get": "/v1/watch"}],
        safe=True,
        server_streaming=True,
        event_id="at",
        resumes_from="a_string",
    ),
    Rpc("WatchNamed", [{"get": "/v1/watch-named"}], safe=True, server_streaming=True, event_of="told"),
    Rpc("Run", [{"post": "/v1/run", "body": "*"}], server_streaming=True, roles=[options_pb2.ROLE_ADMIN]),
)
TOLD: Any = METHODS[0].response_type


@pytest_asyncio.fixture(scope="module")
async def streaming_backend() -> AsyncIterator[Backend]:
    backend = Backend([METHODS[0].service])
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
def backend(streaming_backend: Backend) -> Backend:
    streaming_backend.reset()
    return streaming_backend


@pytest_asyncio.fixture(scope="module")
async def gateway(streaming_backend: Backend, identity: IdentityProvider) -> AsyncIterator[Gateway]:
    async with running_gateway(
        upstream_port=streaming_backend.port,
        identity=identity,
        more_methods=METHODS,
        stream_limits=StreamLimits(comment_seconds=0.1, write_seconds_max=0.5),
    ) as gateway:
        yield gateway


class Source:
    """A stream of the service: it yields what the test puts in, and knows when it was cancelled."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled = asyncio.Event()
        self.taken = 0

    def tell(self, *values: Any) -> None:
        for value in values:
            self.queue.put_nowait(value)

    async def __call__(self, _item: Item[Any]) -> AsyncIterator[Any]:
        try:
            while (value := await self.queue.get()) is not None:
                if isinstance(value, Exception):
                    raise value
                self.taken += 1
                yield value
        finally:
            self.cancelled.set()


def counting(number: int) -> Callable[[Item[Any]], AsyncIterator[Any]]:
    async def follow(item: Item[Any]) -> AsyncIterator[Any]:
        begin = int(item.request.a_string or "0")
        for each in range(begin + 1, begin + number + 1):
            yield TOLD(at=str(each), number=each)

    return follow


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


async def test_a_stream_without_a_first_message_ends_with_its_deadline(
    gateway: Gateway, backend: Backend
) -> None:
    source = backend.streams["Watch"] = Source()
    answer = await gateway.request("GET", "/v1/watch", headers={"Request-Timeout": "0.5"})
    assert answer.reason == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(source.cancelled.wait(), 10)


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


async def test_a_client_that_leaves_cancels_the_call_and_gives_its_place_back(
    gateway: Gateway, backend: Backend
) -> None:
    source = backend.streams["Watch"] = Source()
    source.tell(TOLD(at="a"))
    async with gateway.stream("/v1/watch") as stream:
        await stream.next()
        assert gateway.parts.admission.in_flight == 1
        stream.response.close()
        await asyncio.wait_for(source.cancelled.wait(), 10)
    await eventually(lambda: gateway.parts.admission.in_flight == 0)
    assert await counted(gateway, "streams_open") == 0
    assert await counted(gateway, "streams_ended_total", cause="LEFT") >= 1


async def test_a_client_that_leaves_before_the_first_message_cancels_the_call(
    gateway: Gateway, backend: Backend
) -> None:
    source = backend.streams["Watch"] = Source()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head(gateway, method="GET", path="/v1/watch"))
    await eventually(lambda: len(backend.items) == 1)
    writer.transport.abort()
    await asyncio.wait_for(source.cancelled.wait(), 10)
    await eventually(lambda: gateway.parts.admission.in_flight == 0)


async def test_a_client_that_does_not_read_slows_its_stream_down_and_is_closed(
    gateway: Gateway, backend: Backend
) -> None:
    source = Source()
    backend.streams["Watch"] = source
    total = 4000
    source.tell(*(TOLD(at=str(number), note={"text": "x" * 10_000}) for number in range(total)))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    writer.write(head(gateway, method="GET", path="/v1/watch"))
    await eventually(lambda: source.taken > 0)
    await asyncio.wait_for(source.cancelled.wait(), 30)
    assert source.taken < total, "nobody read, but all was sent"
    await eventually(lambda: gateway.parts.admission.in_flight == 0)
    assert await counted(gateway, "streams_ended_total", cause="NOT_READ") == 1
    writer.transport.abort()
    del reader


async def test_sixty_polite_are_served_beside_streams_that_nobody_reads(
    gateway: Gateway, backend: Backend
) -> None:
    async def endless(_item: Item[Any]) -> AsyncIterator[Any]:
        while True:
            yield TOLD(note={"text": "x" * 10_000})

    backend.streams["Watch"] = endless
    writers = []
    for _ in range(4):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        writer.write(head(gateway, "rude", method="GET", path="/v1/watch"))
        writers.append(writer)
    await eventually(lambda: len(backend.items) == 4)
    backend.items.clear()
    await assert_polite_are_served(gateway, backend)
    for writer in writers:
        writer.transport.abort()
    await eventually(lambda: gateway.parts.admission.in_flight == 0)


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


async def test_a_learner_has_a_bounded_number_of_streams_and_others_have_theirs(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with running_gateway(
        upstream_port=backend.port,
        identity=identity,
        more_methods=METHODS,
        stream_limits=StreamLimits(streams_per_learner_max=2, streams_max=3),
    ) as gateway:
        backend.streams["Watch"] = _stays_open
        async with gateway.stream("/v1/watch") as first, gateway.stream("/v1/watch") as second:
            assert (first.status, second.status) == (200, 200)
            refused = await gateway.request("GET", "/v1/watch")
            assert refused.reason == "RATE_LIMITED"
            assert int(refused.headers["Retry-After"]) >= 1
            async with gateway.stream("/v1/watch", token=identity.token("grace")) as third:
                assert third.status == 200
                full = await gateway.request("GET", "/v1/watch", token=identity.token("eve"))
                assert full.reason == "OVERLOADED"
                assert int(full.headers["Retry-After"]) >= 1
        await eventually(lambda: gateway.parts.admission.in_flight == 0)
        async with gateway.stream("/v1/watch") as again:
            assert again.status == 200


async def test_a_stream_holds_a_low_place_of_its_upstream(
    backend: Backend, identity: IdentityProvider
) -> None:
    room = RoomLimits(in_flight_max=4, method_share=1.0, waiting_max=0)
    async with running_gateway(
        upstream_port=backend.port, identity=identity, more_methods=METHODS, limits=Limits(room=room)
    ) as gateway:
        backend.streams["Watch"] = _stays_open
        async with (
            gateway.stream("/v1/watch") as one,
            gateway.stream("/v1/watch") as two,
            gateway.stream("/v1/watch") as three,
        ):
            assert {one.status, two.status, three.status} == {200}
            assert (await gateway.request("GET", "/v1/watch")).reason == "OVERLOADED"
            started = await gateway.request("POST", "/v1/sessions", body={"testId": "t"})
            assert started.status == 201


async def test_a_stream_ends_with_the_token_and_says_so(gateway: Gateway, backend: Backend) -> None:
    backend.streams["Watch"] = _stays_open
    token = gateway.identity.token(exp=time.time() - 29)
    async with gateway.stream("/v1/watch", token=token) as stream:
        events = await stream.rest()
    assert events[-1].name == "closing"
    assert events[-1].data == {"reason": "TOKEN_EXPIRED"}


async def test_a_withdrawn_key_ends_the_streams_and_only_valid_tokens_open_new_ones(
    backend: Backend, identity: IdentityProvider, tmp_path: Path
) -> None:
    backend.streams["Watch"] = _stays_open
    jwks = tmp_path / "jwks.json"
    successor = IdentityProvider()
    jwks.write_bytes(identity.jwks(identity.rsa, successor.rsa))
    keys = keys_from_file(jwks, public_only=True)
    await keys.load()
    async with running_gateway(
        upstream_port=backend.port, identity=identity, keys=keys, more_methods=METHODS
    ) as gateway:
        old, new = identity.token("ada"), successor.token("ada")
        async with (
            gateway.stream("/v1/watch", token=old) as one,
            gateway.stream("/v1/watch", token=new) as two,
        ):
            jwks.write_bytes(successor.jwks())
            for stream in (one, two):
                assert (await stream.rest())[-1].data == {"reason": "KEYS_CHANGED"}
        async with gateway.stream("/v1/watch", token=old) as refused:
            assert refused.status == 401
        async with gateway.stream("/v1/watch", token=new) as again:
            assert again.status == 200


async def test_a_stream_does_not_last_longer_than_streams_do(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with running_gateway(
        upstream_port=backend.port,
        identity=identity,
        more_methods=METHODS,
        stream_limits=StreamLimits(seconds_max=0.2),
    ) as gateway:
        backend.streams["Watch"] = _stays_open
        async with gateway.stream("/v1/watch") as stream:
            assert (await stream.rest())[-1].data == {"reason": "TIME_OVER"}


async def test_streams_are_told_when_the_process_stops_and_so_are_those_that_come_then(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with running_gateway(
        upstream_port=backend.port, identity=identity, more_methods=METHODS
    ) as gateway:
        source = backend.streams["Watch"] = Source()
        source.tell(TOLD(at="a"))
        async with gateway.stream("/v1/watch") as stream:
            await stream.next()
            gateway.parts.streams.stop()
            (closing,) = await stream.rest()
        await asyncio.wait_for(source.cancelled.wait(), 10)
        backend.items.clear()
        async with gateway.stream("/v1/watch") as late:
            (told,) = await late.rest()
        for event in (closing, told):
            assert (event.name, event.data) == ("closing", {"reason": "STOPPING"})
            assert event.retry_ms is not None
            assert 500 <= event.retry_ms <= 3000
        assert backend.items == []


async def test_a_service_that_dies_ends_the_stream_with_a_problem(
    identity: IdentityProvider,
) -> None:
    backend = Backend([METHODS[0].service])
    await backend.start()
    backend.streams["Watch"] = _stays_open
    async with running_gateway(
        upstream_port=backend.port, identity=identity, more_methods=METHODS
    ) as gateway:
        async with gateway.stream("/v1/watch") as stream:
            await stream.next()
            await backend.stop()
            assert (await stream.rest())[-1].data["reason"] == "UNAVAILABLE"
        assert (await gateway.request("GET", "/v1/watch")).reason == "UNAVAILABLE"


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


async def _stays_open(_item: Item[Any]) -> AsyncIterator[Any]:
    yield TOLD(at="a")
    await asyncio.Event().wait()
