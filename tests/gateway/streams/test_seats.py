"""Server-streaming methods over HTTP: the place that a stream takes, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chassis.batch import Item
from gateway.admission import Limits
from gateway.connections import ConnectionLimits
from gateway.overload import RoomLimits
from gateway.signing_keys import keys_from_file
from gateway.streaming.streams import StreamLimits
from tests.gateway.backend import Backend
from tests.gateway.crowds import assert_polite_are_served, counted, crowd, head
from tests.gateway.running import Gateway, running_gateway
from tests.gateway.streams.source import METHODS, TOLD, Source, stays_open
from tests.gateway.tokens import IdentityProvider
from tests.support.waiting import eventually

SIZES = pytest.mark.parametrize("size", [10_000, 100_000], ids=["small events", "events above 64 KiB"])


async def test_a_stream_without_a_first_message_ends_with_its_deadline(
    gateway: Gateway, backend: Backend
) -> None:
    source = backend.streams["Watch"] = Source()
    answer = await gateway.request("GET", "/v1/watch", headers={"Request-Timeout": "0.5"})
    assert answer.reason == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(source.cancelled.wait(), 10)


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


@SIZES
async def test_a_client_that_does_not_read_slows_its_stream_down_and_is_closed(
    gateway: Gateway, backend: Backend, size: int
) -> None:
    before = await counted(gateway, "streams_ended_total", cause="NOT_READ")
    source = Source()
    backend.streams["Watch"] = source
    total = 40_000_000 // size
    source.tell(*(TOLD(at=str(number), note={"text": "x" * size}) for number in range(total)))
    async with crowd(gateway, 1, head(gateway, method="GET", path="/v1/watch")):
        await eventually(lambda: source.taken > 0)
        await asyncio.wait_for(source.cancelled.wait(), 30)
        assert source.taken < total, "nobody read, but all was sent"
        await eventually(lambda: gateway.parts.admission.in_flight == 0)
        assert await counted(gateway, "streams_ended_total", cause="NOT_READ") == before + 1


async def test_a_stream_that_nobody_reads_ends_with_the_process(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with running_gateway(
        upstream_port=backend.port,
        identity=identity,
        more_methods=METHODS,
        stream_limits=StreamLimits(write_seconds_max=600.0),
        connection_limits=ConnectionLimits(unread_seconds_max=600.0),
    ) as gateway:
        source = backend.streams["Watch"] = Source()
        source.tell(*(TOLD(note={"text": "x" * 100_000}) for _ in range(400)))
        async with crowd(gateway, 1, head(gateway, method="GET", path="/v1/watch")):
            taken = [0] * 50

            def stands_still() -> bool:
                taken.append(source.taken)
                return 0 < taken[-50] == source.taken

            await eventually(stands_still)
            gateway.parts.streams.stop()
            await asyncio.wait_for(source.cancelled.wait(), 30)
            await eventually(lambda: gateway.parts.admission.in_flight == 0)


@SIZES
async def test_sixty_polite_are_served_beside_streams_that_nobody_reads(
    gateway: Gateway, backend: Backend, size: int
) -> None:
    async def endless(_item: Item[Any]) -> AsyncIterator[Any]:
        while True:
            yield TOLD(note={"text": "x" * size})

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


async def test_a_learner_has_a_bounded_number_of_streams_and_others_have_theirs(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with running_gateway(
        upstream_port=backend.port,
        identity=identity,
        more_methods=METHODS,
        stream_limits=StreamLimits(streams_per_learner_max=2, streams_max=3),
    ) as gateway:
        backend.streams["Watch"] = stays_open
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
        backend.streams["Watch"] = stays_open
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
    backend.streams["Watch"] = stays_open
    token = gateway.identity.token(exp=time.time() - 29)
    async with gateway.stream("/v1/watch", token=token) as stream:
        events = await stream.rest()
    assert events[-1].name == "closing"
    assert events[-1].data == {"reason": "TOKEN_EXPIRED"}


async def test_a_withdrawn_key_ends_the_streams_and_only_valid_tokens_open_new_ones(
    backend: Backend, identity: IdentityProvider, tmp_path: Path
) -> None:
    backend.streams["Watch"] = stays_open
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
        backend.streams["Watch"] = stays_open
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
    backend.streams["Watch"] = stays_open
    async with running_gateway(
        upstream_port=backend.port, identity=identity, more_methods=METHODS
    ) as gateway:
        async with gateway.stream("/v1/watch") as stream:
            await stream.next()
            await backend.stop()
            assert (await stream.rest())[-1].data["reason"] == "UNAVAILABLE"
        assert (await gateway.request("GET", "/v1/watch")).reason == "UNAVAILABLE"
