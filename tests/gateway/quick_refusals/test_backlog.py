"""One turn of a crowded gateway looks at some requests; the others wait, and nothing is lost of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from gateway.backlog import SECONDS_MAX, Backlog
from gateway.connections import Connection
from tests.gateway.backend import Backend
from tests.gateway.crowds import counted
from tests.gateway.quick_refusals.lines import (
    Line,
    every_request_waits,
    full,
    get,
    line,
    only_the_application,
    quick_ones,
    start,
)
from tests.gateway.running import Gateway
from tests.support.waiting import eventually

LIST = "/homeroom.session.v1.SessionService/ListSessions"


async def turn() -> None:
    """Lets the event loop come round once."""
    await asyncio.sleep(0)


def takes(backlog: Backlog, looked_at: list[int], number: int, size_bytes: int = 1) -> bool:
    return backlog.takes(lambda: looked_at.append(number), size_bytes)


async def test_each_turn_looks_at_some_in_their_order() -> None:
    backlog, looked_at = Backlog(share_max=0.0, looks_min=3), []
    waits = [takes(backlog, looked_at, number) for number in range(8)]
    assert waits == [False] * 3 + [True] * 5
    assert (backlog.waiting, looked_at) == (5, [])
    await turn()
    assert looked_at == [3, 4, 5]
    assert takes(backlog, looked_at, 8)  # nobody overtakes those that wait
    await turn()
    assert (backlog.waiting, looked_at) == (0, [3, 4, 5, 6, 7, 8])
    await turn()
    assert [takes(backlog, looked_at, number) for number in range(4)] == [False] * 3 + [True]
    await turn()


async def test_a_turn_that_takes_long_gives_a_share_of_its_time_to_those_that_wait() -> None:
    now, looked_at = 100.0, []

    def look() -> None:
        nonlocal now
        now += 0.001
        looked_at.append(now)

    backlog = Backlog(share_max=0.75, looks_min=2, clock=lambda: now)
    for _ in range(302):
        backlog.takes(look, 1)
    assert (backlog.waiting, looked_at) == (300, [])
    now += 0.00395  # of other work, so there are nearly 12 ms for looks
    await turn()
    assert len(looked_at) == 12
    now += 0.00095
    await turn()
    assert len(looked_at) == 15
    await turn()  # no time has passed
    assert len(looked_at) == 17
    now += 60.0  # the process was stopped
    await turn()
    assert len(looked_at) == pytest.approx(17 + SECONDS_MAX / 0.001, abs=1)
    while backlog.waiting:
        await turn()
    await turn()
    assert (len(looked_at), backlog._turning) == (300, False)


async def test_what_waits_is_bounded_in_size() -> None:
    backlog, looked_at = Backlog(share_max=0.0, looks_min=1, bytes_max=10), []
    assert [takes(backlog, looked_at, n, size) for n, size in enumerate([99, 6, 5, 4])] == [
        False,
        True,
        False,
        True,
    ]
    await turn()
    assert takes(backlog, looked_at, 9, 6)
    for _ in range(3):
        await turn()
    assert looked_at == [1, 3, 9]


async def test_an_idle_backlog_does_not_turn() -> None:
    backlog, looked_at = Backlog(looks_min=1), []
    takes(backlog, looked_at, 0)
    takes(backlog, looked_at, 1)
    for _ in range(4):
        await turn()
    assert not backlog._turning
    assert looked_at == [1]


async def test_all_of_a_flood_are_answered_and_their_wait_is_measured(
    backend: Backend, gateway: Gateway
) -> None:
    async with full(backend, gateway) as made:
        made.parts.admission.backlog._looks_min = 1
        before = await counted(made, "call_seconds_sum", method=LIST, code="OVERLOADED")

        async def ask() -> None:
            async with line(made) as one:
                for _ in range(3):
                    assert b"OVERLOADED" in await one.ask(get(made))

        with quick_ones() as targets:
            await asyncio.gather(*(ask() for _ in range(60)))
        assert len(targets) > 60
        assert await counted(made, "call_seconds_sum", method=LIST, code="OVERLOADED") > before
        assert await counted(made, "requests_unread") == 0.0


async def test_a_request_that_waited_is_served_when_there_is_room_by_then(
    backend: Backend, gateway: Gateway
) -> None:
    async with full(backend, gateway) as made, line(made) as one:
        held = hold(made)
        await one.send(start(made))
        await eventually(lambda: len(held) == 1)
        backend.gate.set()
        await eventually(lambda: made.parts.admission.in_flight == 0)
        held[0]()
        assert (await one.answer()).startswith(b"HTTP/1.1 201 Created\r\n")
        assert (await one.ask(get(made))).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_the_time_of_a_request_runs_while_it_waits(backend: Backend, gateway: Gateway) -> None:
    async with full(backend, gateway) as made, line(made) as one:
        held = hold(made)
        await one.send(get(made, "/v1/sessions/s-1", more="Request-Timeout: 5\r\n"))
        await eventually(lambda: len(held) == 1)
        connection_of(held[0]).received_at -= 6.0
        backend.gate.set()
        await eventually(lambda: made.parts.admission.in_flight == 0)
        held[0]()
        assert b'"reason":"DEADLINE_EXCEEDED"' in await one.answer()
        assert (await one.ask(get(made))).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_more_of_a_request_that_waits_is_read_behind_it(backend: Backend, gateway: Gateway) -> None:
    async with full(backend, gateway) as made, line(made) as one:
        held = hold(made)
        whole = start(made)
        await one.send(whole[:-5])
        await eventually(lambda: len(held) == 1)
        await one.send(whole[-5:])
        assert b"OVERLOADED" in await one.answer()
        held[0]()  # its turn comes, and finds nothing
        assert b"OVERLOADED" in await asked_when_held(one, made, held)


async def test_a_head_that_comes_in_drops_gains_no_time_by_waiting(
    backend: Backend, gateway: Gateway
) -> None:
    async with full(backend, gateway) as made, line(made) as one:
        with only_the_application():
            await one.ask(get(made))
        (connection,) = (
            each
            for each in made.parts.listener._connections._open
            if isinstance(each, Connection) and each._request_count == 1 and not each._current_request
        )
        with every_request_waits():
            since = []
            for drop in (b"GET /v1/sess", b"ions HTTP/1.1\r\n", b"X-A: b"):
                before = connection._head_bytes
                await one.send(drop)
                await eventually(lambda before=before: connection._head_bytes > before)
                since.append(connection._head_since)
        assert since[0] > 0
        assert set(since) == {since[0]}
        assert connection.overdue(since[0] + 11.0) == "headers_too_slow"


async def test_a_client_that_leaves_while_it_waits_is_forgotten(backend: Backend, gateway: Gateway) -> None:
    async with full(backend, gateway) as made:
        held = hold(made)
        async with line(made) as one:
            await one.send(get(made))
            await eventually(lambda: len(held) == 1)
        left = connection_of(held[0])
        await eventually(lambda: left not in made.parts.listener._connections._open)
        held[0]()
        assert left._request_count == 0


async def test_a_request_that_waits_is_answered_by_a_process_that_stops(
    backend: Backend, gateway: Gateway
) -> None:
    async with full(backend, gateway) as made, line(made) as one:
        held = hold(made)
        await one.send(get(made))
        await eventually(lambda: len(held) == 1)
        connection_of(held[0]).close()
        assert b"OVERLOADED" in await one.answer()


async def test_a_defect_in_one_look_closes_that_connection_alone(backend: Backend, gateway: Gateway) -> None:
    async with full(backend, gateway) as made, line(made) as poisoned, line(made) as polite:
        held = hold(made)
        await poisoned.send(get(made))
        await eventually(lambda: len(held) == 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.connections.plain_request", lambda _: 1 / 0)
            held[0]()
        assert await poisoned.rest() == b""
        assert b"OVERLOADED" in await asked_when_held(polite, made, held)


async def test_waiting_makes_no_difference_to_a_flood_of_starts(backend: Backend, gateway: Gateway) -> None:
    async with full(backend, gateway) as made, line(made) as one:
        with every_request_waits():
            for _ in range(3):
                assert b"OVERLOADED" in await one.ask(start(made))
        backend.gate.set()
        await eventually(lambda: made.parts.admission.in_flight == 0)
        assert (await one.ask(start(made))).startswith(b"HTTP/1.1 201 Created\r\n")


def hold(made: Gateway) -> list[Callable[[], object]]:
    """From now on all requests wait, until a test looks at them."""
    held: list[Callable[[], object]] = []

    def takes(look: Callable[[], object], _size_bytes: int) -> bool:
        held.append(look)
        return True

    made.parts.admission.backlog.takes = takes  # type: ignore[assignment,method-assign]  # of this one only
    return held


def connection_of(look: Callable[[], object]) -> Connection:
    return cast("Connection", look.__self__)


async def asked_when_held(one: Line, made: Gateway, held: list[Callable[[], object]]) -> bytes:
    """The answer to a request that waits, and is looked at."""
    before = len(held)
    await one.send(get(made))
    await eventually(lambda: len(held) == before + 1)
    held[-1]()
    return await one.answer()
