"""Lines stay open between messages; what ends one costs no call that need not have been lost."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest

from chassis.errors import Reason, ServiceError
from tests.support.rpc import ADJUST, TOKEN, Credits, adjust, call, calling, port_to_come_back_to, serving


class SlowServicer(Credits):
    """Says when it was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = asyncio.Event()

    async def adjust_credits(self, items, render):
        try:
            return await super().adjust_credits(items, render)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def balance(client, amount: int) -> int:
    return (await client.call(ADJUST, adjust(amount), call())).message.balance


async def asked(stream, payload: bytes) -> object:
    await stream.write(payload)
    return await stream.read()


async def test_one_line_carries_message_after_message():
    async with serving() as server, calling(server.port) as client:
        lines = client._carrier._lines
        for number in range(20, 40):
            assert await balance(client, number) == number
            assert len(lines._idle) == 1


async def test_a_stopped_server_does_not_wait_for_idle_lines_and_the_next_one_gets_no_lost_call():
    port = port_to_come_back_to()
    async with serving(bind=f"127.0.0.1:{port}") as server, calling(port, attempts=1) as client:
        assert await balance(client, 1) == 1
        async with asyncio.timeout(2.0):
            await server.stop(grace_seconds=30.0)
        async with serving(bind=f"127.0.0.1:{port}"):
            assert await balance(client, 2) == 2


async def test_a_message_whose_time_is_over_ends_its_work_and_its_line():
    servicer = SlowServicer()
    servicer.gate = asyncio.Event()
    async with serving(servicer) as server, calling(server.port) as client:
        with pytest.raises(ServiceError) as caught:
            await client.call(ADJUST, adjust(1), call(seconds=0.4))
        assert caught.value.reason is Reason.DEADLINE_EXCEEDED
        async with asyncio.timeout(5.0):
            await servicer.cancelled.wait()
        servicer.gate.set()
        assert await balance(client, 2) == 2  # on a line of its own: the late answer is nobody's


@pytest.mark.parametrize("metadata", [(), (("x-homeroom-service-token", "another"),)])
async def test_a_line_without_the_token_is_refused(metadata):
    servicer = Credits()
    async with serving(servicer) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stream = channel.stream_stream("/homeroom.chassis.v1.CarrierService/CarryStream")(metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()  # the refusal waits for no message
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert servicer.batches == []


async def test_what_is_no_message_ends_the_line():
    token = (("x-homeroom-service-token", TOKEN),)
    async with serving() as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stream = channel.stream_stream("/homeroom.chassis.v1.CarrierService/CarryStream")(metadata=token)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked(stream, b"\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
