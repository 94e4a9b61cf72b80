"""A process that is killed, stopped or paused under load: a call is answered, UNAVAILABLE or out of time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import structlog.testing

from chassis.errors import Reason, ServiceError
from protos.subscription.v1 import licenses_pb2
from tests.support.rpc import (
    ADJUST,
    WATCH,
    adjust,
    call,
    calling,
    other_process,
    port_to_come_back_to,
    reason_of,
    serving,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.fault

ROUNDS = 4
NO_ANSWER = {Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED}
TOO_LONG = "x" * 100_000  # refused by the server; writing it takes long enough to be interrupted


class Load:
    """Calls of every kind, one after the other in many tasks; `seen` counts the outcomes."""

    def __init__(self, client) -> None:
        self.seen: Counter[Reason | None] = Counter()
        self.unexpected: list[BaseException] = []
        self._client = client

    @property
    def answered(self) -> int:
        return self.seen[None]

    async def call(self) -> None:
        self.seen[await reason_of(self._client, seconds=2.0)] += 1

    async def call_many(self) -> None:
        long = (adjust(1, TOO_LONG), call(seconds=2.0))
        outcomes = await self._client.call_many(ADJUST, [long, (adjust(1), call(seconds=2.0)), long])
        self.seen.update(
            outcome.reason if isinstance(outcome, ServiceError) else None for outcome in outcomes
        )

    async def follow(self) -> None:
        request = licenses_pb2.WatchLicensesRequest()
        try:
            async for _ in self._client.stream(WATCH, request, call(roles=("service",))):
                self.seen[None] += 1
        except ServiceError as error:
            self.seen[error.reason] += 1

    async def check_health(self) -> None:
        try:
            await self._client.check_health()
        except ServiceError as error:
            self.seen[error.reason] += 1

    async def repeat(self, one) -> None:
        while True:
            failed = self.seen.total() - self.answered
            try:
                await one()
            except Exception as error:  # noqa: BLE001 - the test fails for it
                self.unexpected.append(error)
            if self.seen.total() - self.answered > failed:
                await asyncio.sleep(0.005)  # an open breaker refuses at once

    @asynccontextmanager
    async def going_on(self):
        kinds = [*[self.call] * 24, *[self.call_many] * 6, *[self.follow] * 2, self.check_health]
        tasks = [asyncio.create_task(self.repeat(kind)) for kind in kinds]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)


def check(load: Load) -> None:
    assert load.unexpected == []
    assert set(load.seen) <= {None, Reason.INVALID_ARGUMENT, *NO_ANSWER}, load.seen


async def more_answers(load: Load) -> None:
    before = load.answered
    await eventually(lambda: load.answered > before + 200, seconds=60.0)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_a_process_that_ends_under_load_is_unavailable_and_nothing_else(end):
    with structlog.testing.capture_logs():
        async with AsyncExitStack() as stack:
            port, process = await stack.enter_async_context(other_process(port_to_come_back_to()))
            client = await stack.enter_async_context(calling(port, attempts=1))
            load = Load(client)
            async with load.going_on():
                for _ in range(ROUNDS):
                    await more_answers(load)
                    os.kill(process.pid, end)
                    await eventually(lambda: client.breaker_open, seconds=60.0)
                    await process.wait()
                    _, process = await stack.enter_async_context(other_process(port))
                await more_answers(load)
    check(load)
    assert load.seen[Reason.UNAVAILABLE] > 0


async def test_a_process_that_is_paused_under_load_costs_time_and_nothing_else():
    with structlog.testing.capture_logs():
        async with other_process() as (port, process), calling(port, attempts=1) as client:
            load = Load(client)
            async with load.going_on():
                for pause_seconds in (0.05, 0.2, 0.5, 2.5):
                    await more_answers(load)
                    os.kill(process.pid, signal.SIGSTOP)
                    await asyncio.sleep(pause_seconds)
                    os.kill(process.pid, signal.SIGCONT)
                await more_answers(load)
    check(load)


async def test_a_process_that_dies_while_paused_is_found_out_and_found_again():
    with structlog.testing.capture_logs():
        async with AsyncExitStack() as stack:
            port, process = await stack.enter_async_context(other_process(port_to_come_back_to()))
            client = await stack.enter_async_context(calling(port, attempts=1))
            load = Load(client)
            async with load.going_on():
                for _ in range(3):
                    await more_answers(load)
                    os.kill(process.pid, signal.SIGSTOP)
                    await asyncio.sleep(0.1)
                    process.kill()
                    await eventually(lambda: client.breaker_open, seconds=60.0)
                    await process.wait()
                    _, process = await stack.enter_async_context(other_process(port))
                await more_answers(load)
    check(load)


async def test_retries_hide_a_restart_from_patient_callers_of_keyed_methods():
    async with AsyncExitStack() as stack:
        port, process = await stack.enter_async_context(other_process(port_to_come_back_to()))
        client = await stack.enter_async_context(calling(port))
        assert await reason_of(client) is None
        os.kill(process.pid, signal.SIGTERM)
        await process.wait()
        await stack.enter_async_context(other_process(port))
        # The idle line is gone, and the channel may still be waiting to connect again.
        assert await eventually(lambda: _answered(client), seconds=10.0)


async def _answered(client) -> bool:
    return await reason_of(client) is None


async def test_a_channel_that_closes_under_load_refuses_and_never_cancels_its_callers():
    with structlog.testing.capture_logs():
        async with serving() as server:
            for _ in range(10):
                async with calling(server.port, attempts=1) as client:
                    load = Load(client)
                    async with load.going_on():
                        await eventually(lambda: load.answered > 50)  # noqa: B023 - awaited in this round
                        await client.close()
                        await eventually(lambda: load.seen[Reason.UNAVAILABLE] > 50)  # noqa: B023 - it runs before the next round begins
                check(load)


async def test_a_caller_that_is_cancelled_while_the_process_dies_hears_of_its_cancellation():
    with structlog.testing.capture_logs():
        async with other_process() as (port, process), calling(port, attempts=1) as client:
            assert await reason_of(client) is None
            os.kill(process.pid, signal.SIGSTOP)
            calls: list[Awaitable[object]] = [
                *(client.call(ADJUST, adjust(1), call(seconds=60)) for _ in range(20)),
                *(client.call_many(ADJUST, [(adjust(1), call(seconds=60))]) for _ in range(20)),
                *(
                    anext(client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), call(roles=("service",))))
                    for _ in range(5)
                ),
                *(client.check_health() for _ in range(5)),
            ]
            tasks = [asyncio.ensure_future(each) for each in calls]
            await asyncio.sleep(0.1)
            process.kill()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
