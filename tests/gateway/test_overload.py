"""More requests than the gateway has room for: who waits, who is refused, and whom it does not concern."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from functools import partial
from types import SimpleNamespace

import pytest

from chassis.errors import Reason, ServiceError
from chassis.rpc.methods import Method, Priority, find_method
from chassis.telemetry.metrics import Metrics
from gateway.admission import Limits
from gateway.overload import Room, RoomLimits, _Queue
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway, running_gateway
from tests.support.waiting import eventually

SESSIONS = "/homeroom.session.v1.SessionService"
COMPLETE, ANSWER = find_method(f"{SESSIONS}/CompleteSession"), find_method(f"{SESSIONS}/AnswerQuestion")
START, READ = find_method(f"{SESSIONS}/CreateSession"), find_method(f"{SESSIONS}/GetSession")
LIST = find_method(f"{SESSIONS}/ListSessions")
FOREVER = 60.0


def room(metrics: Metrics | None = None, **limits: float) -> Room:
    """Room for four: five of high priority, four of normal, three of low; without a bound on one method."""
    usual = {
        "in_flight_max": 4,
        "method_share": 9.0,
        "wait_seconds_max": FOREVER,
        "standing_seconds": FOREVER,
    }
    shed = (metrics or Metrics(service="test")).counter("requests_shed", "Shed.", ("priority", "cause"))
    return Room(RoomLimits(**(usual | limits)), shed=shed)


async def enter(made: Room, method: Method) -> None:
    await made.enter(made.share_of(method))


def leave(made: Room, method: Method) -> None:
    made.leave(made.share_of(method))


async def fill(made: Room, method: Method = COMPLETE, places: int = 5) -> None:
    for _ in range(places):
        await enter(made, method)


async def waiting(made: Room, *methods: Method) -> list[asyncio.Task[None]]:
    before = made.waiting
    tasks = [asyncio.create_task(enter(made, method)) for method in methods]
    await eventually(lambda: made.waiting == before + len(methods))
    return tasks


async def test_room_that_becomes_free_goes_to_completions_then_starts_then_lists():
    made = room()
    await fill(made)
    low, normal, high = await waiting(made, LIST, START, COMPLETE)
    order = []
    for name, task in (("low", low), ("normal", normal), ("high", high)):
        task.add_done_callback(partial(_note, order, name))
    for left in (2, 2, 1, 1, 0):
        leave(made, COMPLETE)
        await eventually(lambda left=left: made.waiting == left)
    await asyncio.gather(low, normal, high)
    assert order == ["high", "normal", "low"]


def _note(order: list[str], name: str, _: object) -> None:
    order.append(name)


@pytest.mark.parametrize("method", [COMPLETE, START, LIST], ids=lambda method: method.name)
async def test_a_queue_has_a_length(method):
    metrics = Metrics(service="test")
    made = room(metrics, waiting_max=2)
    await fill(made)
    first = await waiting(made, method, method)
    with pytest.raises(ServiceError) as caught:
        await enter(made, method)
    assert caught.value.reason is Reason.OVERLOADED
    assert caught.value.retry_after_seconds
    with pytest.raises(ServiceError):
        made.refuse_if_full(made.share_of(method))
    other = START if method.priority is Priority.LOW else LIST
    made.refuse_if_full(made.share_of(other))  # each priority has a queue of its own
    assert f'cause="queue_full",priority="{method.priority.name.lower()}"' in metrics.render().decode()
    for _ in range(5):
        leave(made, COMPLETE)
    await asyncio.gather(*first)


async def test_a_request_waits_for_a_moment_only():
    metrics = Metrics(service="test")
    made = room(metrics, wait_seconds_max=0.01)
    await fill(made)
    reasons = await asyncio.gather(*(enter(made, START) for _ in range(20)), return_exceptions=True)
    assert {error.reason for error in reasons} == {Reason.OVERLOADED}
    assert 'requests_shed_total{cause="queue_time",priority="normal"} 20.0' in metrics.render().decode()
    assert made.waiting == 0
    leave(made, COMPLETE)
    leave(made, COMPLETE)
    await enter(made, START)


async def test_where_nobody_was_let_in_lately_nobody_waits():
    metrics = Metrics(service="test")
    made = room(metrics, standing_seconds=1e-6, standing_wait_seconds_max=FOREVER)
    await fill(made)
    (first,) = await waiting(made, START)
    for _ in range(20):
        with pytest.raises(ServiceError):
            await enter(made, START)
    assert 'requests_shed_total{cause="queue_full",priority="normal"} 20.0' in metrics.render().decode()
    leave(made, COMPLETE)
    leave(made, COMPLETE)
    await first
    assert made.waiting == 0


def test_as_many_may_wait_as_were_let_in_during_such_a_time(monkeypatch):
    now = 1000.0
    loop = asyncio.new_event_loop()
    monkeypatch.setattr("gateway.overload.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("gateway.overload.asyncio.get_running_loop", lambda: loop)
    queue = _Queue(RoomLimits(waiting_max=128, standing_seconds=0.1, standing_wait_seconds_max=0.005))
    assert queue.free() == 128
    queue.join()
    assert queue.free() == 127
    now += 0.11
    assert queue.free() == -1  # one waits, and nobody was let in
    for _ in range(400):  # in two tenths of a second
        now += 0.0005
        queue.join()
        queue.let_in()
    assert 8 <= queue.free() + queue.waiting <= 12
    while queue.waiting:
        queue.let_in()
    for _ in range(20):  # those who are refused meanwhile are no calm
        now += 0.05
        assert queue.free() < 64
    now += 0.11
    assert queue.free() == 128
    loop.close()


async def test_starts_keep_a_part_of_the_room_that_answers_and_completions_cannot_fill():
    made = room(in_flight_max=40)
    await fill(made, COMPLETE, 46)
    assert made.enter_now(made.share_of(COMPLETE)) is False
    for _ in range(4):
        assert made.enter_now(made.share_of(START))
    assert made.enter_now(made.share_of(START)) is False
    for _ in range(4):
        leave(made, START)
    (waits,) = await waiting(made, COMPLETE)
    leave(made, COMPLETE)
    await waits
    assert made.enter_now(made.share_of(LIST)) is False


async def test_a_burst_waits_longer_than_what_comes_into_a_queue_that_is_never_empty(monkeypatch):
    made = room(wait_seconds_max=0.04, standing_seconds=0.1, standing_wait_seconds_max=0.005)
    await fill(made)
    loop = asyncio.get_running_loop()
    now, delays, call_later = 1000.0, [], loop.call_later

    class Loop:
        def create_future(self) -> asyncio.Future[None]:
            return loop.create_future()

        def call_later(self, seconds, act, *values):
            delays.append(seconds)
            return call_later(FOREVER, act, *values)

    queue = made._queues[Priority.NORMAL]
    monkeypatch.setattr("gateway.overload.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("gateway.overload.asyncio.get_running_loop", Loop)
    places = []
    for at in (1000.0, 1000.05, 1000.12):
        now = at
        places.append(queue.join())
    assert queue.let_in()
    now = 1000.13
    places.append(queue.join())
    while queue.waiting:
        queue.let_in()
    now = 1000.2
    places.append(queue.join())
    assert delays == [0.04, 0.04, 0.005, 0.005, 0.04]
    places[-1].cancel()
    await asyncio.sleep(0)


async def test_a_slow_method_leaves_room_to_its_neighbours():
    made = room(in_flight_max=8, method_share=0.75)
    for _ in range(6):
        await enter(made, START)
    with pytest.raises(ServiceError) as caught:
        await enter(made, START)
    assert caught.value.reason is Reason.OVERLOADED
    await enter(made, READ)
    await enter(made, READ)
    await enter(made, ANSWER)
    leave(made, START)
    leave(made, READ)
    leave(made, READ)
    await enter(made, START)


async def test_who_leaves_while_waiting_takes_no_room_also_in_the_moment_in_which_it_is_given():
    made = room()
    await fill(made)
    gone, served, later = await waiting(made, START, START, START)
    gone.cancel()
    await asyncio.wait({gone})
    assert made.waiting == 2
    leave(made, COMPLETE)
    leave(made, COMPLETE)  # gives the room to `served`, which is cancelled before it runs again
    served.cancel()
    await asyncio.wait({served})
    assert served.cancelled()
    await later
    for _ in range(3):
        leave(made, COMPLETE)
    leave(made, START)
    assert [share.count for share in made._shares.values()] == [0, 0]
    assert made.in_flight == 0


async def test_a_silent_upstream_takes_nothing_from_the_others(gateway: Gateway, backend: Backend):
    silent = Backend()
    await silent.start()
    silent.gate.clear()
    ports = {"session": silent.port, "subscription": backend.port, "progress": backend.port}
    limits = Limits(room=RoomLimits(in_flight_max=8))
    async with running_gateway(upstream_port=ports, identity=gateway.identity, limits=limits) as made:
        asked = [asyncio.create_task(made.request("GET", f"/v1/sessions/{n}")) for n in range(30)]
        await eventually(lambda: len(silent.items) == 6)
        for _ in range(20):
            assert (await made.request("GET", "/v1/stats")).status == 200
            assert (await made.request("GET", "/v1/entitlements")).status == 200
        assert len(silent.items) == 6
        silent.gate.set()
        assert Tally([(await each).status for each in asked]) == {200: 6, 503: 24}
        await eventually(lambda: made.parts.admission.in_flight == 0)
    await silent.stop()


async def test_of_three_times_what_fits_completions_are_refused_last(gateway: Gateway, backend: Backend):
    """Waves of everything at once, while nothing is answered; nothing is kept of those that are refused."""
    limits = Limits(room=RoomLimits(in_flight_max=40, waiting_max=4))
    async with running_gateway(upstream_port=backend.port, identity=gateway.identity, limits=limits) as made:
        for _ in range(5):
            backend.gate.clear()
            backend.items.clear()
            statuses: dict[str, Tally[int]] = {name: Tally() for name in ("list", "start", "complete")}

            async def ask(name, method, path, statuses=statuses):
                answer = await made.request(method, path, body={"testId": "t"} if name == "start" else None)
                assert answer.status == 200 + (name == "start") or "Retry-After" in answer.headers
                statuses[name][answer.status] += 1

            asked: list[asyncio.Task[None]] = []
            for ask_one in (
                partial(ask, "list", "GET", "/v1/sessions"),
                partial(ask, "start", "POST", "/v1/sessions"),
                partial(ask, "complete", "POST", "/v1/sessions/s:complete"),
            ):
                asked += [asyncio.create_task(ask_one()) for _ in range(40)]
                # Those that are refused have their answer although nothing is answered behind the gateway.
                await eventually(lambda: made.parts.admission.in_flight == len(backend.items) or None)
                await eventually(
                    lambda asked=asked: sum(each.done() for each in asked) == len(asked) - len(backend.items)
                )
            assert len(backend.items) <= 50
            backend.gate.set()
            await asyncio.gather(*asked)
            served = {name: tally[200] + tally[201] for name, tally in statuses.items()}
            assert served["complete"] + served["start"] + served["list"] == len(backend.items)
            assert served["list"] <= 30
            assert served["complete"] >= 10  # the room that only they may use
            await eventually(lambda: made.parts.admission.in_flight == 0)
        (only,) = made.parts.admission._rooms.values()
        assert (only.in_flight, only.waiting, {share.count for share in only._shares.values()}) == (0, 0, {0})
