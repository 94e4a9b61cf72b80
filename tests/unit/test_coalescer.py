"""Calls are collected while a batch is in flight. Each gets its own answer, in order, or its own refusal."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from chassis.errors import Reason, ServiceError
from chassis.rpc.coalescer import Coalescer
from chassis.rpc.pacing import Pacer


class Line:
    """A line that answers when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gates: list[asyncio.Event] = []

    async def send(self, asks):
        self.batches.append(list(asks))
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        return [ServiceError(Reason.NOT_FOUND) if ask < 0 else ask * 10 for ask in asks]


def coalescer(line: Line, *, lanes: int = 1, batch_max: int = 64, waiting_max: int = 100):
    return Coalescer(send=line.send, lanes=lanes, batch_max=batch_max, waiting_max=waiting_max, pacer=Pacer())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_idle_line_sends_at_once_and_a_busy_one_gathers():
    line = Line()
    gathering = coalescer(line)
    first = gathering.submit(1)
    await settle()
    rest = [gathering.submit(n) for n in (2, 3, 4)]
    await settle()
    assert line.batches == [[1]]
    line.gates[0].set()
    await settle()
    assert line.batches == [[1], [2, 3, 4]]
    line.gates[1].set()
    assert await first == 10
    assert await asyncio.gather(*rest) == [20, 30, 40]


async def test_lanes_work_side_by_side_and_no_batch_exceeds_the_max():
    line = Line()
    gathering = coalescer(line, lanes=2, batch_max=3)
    futures = [gathering.submit(n) for n in range(8)]
    await settle()
    assert line.batches == [[0, 1, 2], [3, 4, 5]]
    for gate in line.gates:
        gate.set()
    await settle()
    assert line.batches[2:] == [[6], [7]]
    for gate in line.gates[2:]:
        gate.set()
    assert await asyncio.gather(*futures) == [n * 10 for n in range(8)]


async def test_lanes_share_the_waiting_calls():
    line = Line()
    gathering = coalescer(line, lanes=2)
    futures = [gathering.submit(n) for n in range(8)]
    await settle()
    assert line.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
    for gate in line.gates:
        gate.set()
    await asyncio.gather(*futures)


async def test_calls_that_arrive_one_by_one_travel_together_while_another_lane_carries_more():
    line = Line()
    gathering = coalescer(line, lanes=2)
    first = [gathering.submit(n) for n in range(12)]
    await settle()
    assert [len(batch) for batch in line.batches] == [6, 6]
    line.gates[0].set()
    await settle()
    late = []
    for number in range(100, 104):  # one in each turn of the loop
        late.append(gathering.submit(number))
        await asyncio.sleep(0)
    await settle()
    assert line.batches[2:] == [[100, 101, 102, 103]]
    for gate in line.gates[1:]:
        gate.set()
    await asyncio.gather(*first, *late)


async def test_a_call_does_not_wait_for_others_that_do_not_come():
    line = Line()
    gathering = coalescer(line, lanes=2)
    first = [gathering.submit(n) for n in range(12)]
    await settle()
    line.gates[0].set()
    await settle()
    alone = gathering.submit(100)
    await settle()
    assert line.batches[2:] == [[100]]
    for gate in line.gates[1:]:
        gate.set()
    await asyncio.gather(*first, alone)


async def test_a_refused_call_does_not_affect_its_batch():
    line = Line()
    gathering = coalescer(line)
    good, bad, other = (gathering.submit(n) for n in (1, -1, 2))
    await settle()
    line.gates[0].set()
    assert await good == 10
    assert await other == 20
    with pytest.raises(ServiceError) as caught:
        await bad
    assert caught.value.reason is Reason.NOT_FOUND


async def test_the_call_of_a_caller_that_left_before_its_batch_is_not_sent():
    line = Line()
    gathering = coalescer(line)
    first = gathering.submit(1)
    await settle()
    left, stayed = gathering.submit(2), gathering.submit(3)
    left.cancel()
    line.gates[0].set()
    await settle()
    line.gates[1].set()
    assert (await first, await stayed) == (10, 30)
    assert line.batches == [[1], [3]]


async def test_a_caller_that_left_during_its_batch_does_not_disturb_it():
    line = Line()
    gathering = coalescer(line)
    left, stayed = gathering.submit(2), gathering.submit(3)
    await settle()
    left.cancel()
    line.gates[0].set()
    assert await stayed == 30


async def test_a_call_above_the_limit_is_refused_at_once():
    line = Line()
    gathering = coalescer(line, waiting_max=2)
    first = gathering.submit(1)
    await settle()
    waiting = [gathering.submit(2), gathering.submit(3)]
    with pytest.raises(ServiceError) as caught:
        gathering.submit(4)
    assert caught.value.reason is Reason.OVERLOADED
    line.gates[0].set()
    await settle()
    line.gates[1].set()
    assert await asyncio.gather(first, *waiting) == [10, 20, 30]


async def test_a_line_that_breaks_fails_its_batch_and_serves_the_next():
    calls = 0

    async def send(asks):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionResetError
        return list(asks)

    gathering = Coalescer(send=send, lanes=1, batch_max=8, waiting_max=8, pacer=Pacer())
    with pytest.raises(ServiceError) as caught:
        await gathering.submit(1)
    assert caught.value.reason is Reason.UNAVAILABLE
    assert await gathering.submit(2) == 2
    await gathering.close()


async def test_callers_that_left_do_not_count_against_the_bound():
    line = Line()
    gathering = coalescer(line, waiting_max=2)
    first = gathering.submit(1)
    await settle()
    for _ in range(10):
        gathering.submit(2).cancel()
    waiting = [gathering.submit(3), gathering.submit(4)]
    with pytest.raises(ServiceError):
        gathering.submit(5)
    line.gates[0].set()
    await settle()
    line.gates[1].set()
    assert await asyncio.gather(first, *waiting) == [10, 30, 40]
    assert line.batches == [[1], [3, 4]]


async def test_a_line_with_a_wrong_number_of_answers_fails_its_batch_and_serves_the_next():
    async def send(asks):
        return [1] if len(asks) > 1 else list(asks)

    gathering = Coalescer(send=send, lanes=1, batch_max=8, waiting_max=8, pacer=Pacer())
    outcomes = await asyncio.gather(*(gathering.submit(n) for n in (1, 2, 3)), return_exceptions=True)
    assert [outcome.reason for outcome in outcomes] == [Reason.UNAVAILABLE] * 3
    assert await gathering.submit(4) == 4


async def test_a_lane_that_is_cancelled_leaves_nobody_waiting():
    line = Line()
    gathering = coalescer(line)
    under_way, stayed = gathering.submit(1), gathering.submit(2)
    await settle()
    for lane in gathering._lanes_under_way:
        lane.cancel()
    outcomes = await asyncio.gather(under_way, stayed, return_exceptions=True)
    assert [outcome.reason for outcome in outcomes] == [Reason.UNAVAILABLE] * 2
    again = gathering.submit(3)
    await settle()
    line.gates[1].set()
    assert await again == 30


async def test_a_paced_batch_frees_its_lane_and_closing_gives_all_its_answers():
    async def send(asks):
        return [ask * 10 for ask in asks]

    pacer = Pacer(paced=lambda: True, per_turn_max=1)
    gathering = Coalescer(send=send, lanes=1, batch_max=8, waiting_max=8, pacer=pacer)
    futures = [gathering.submit(n) for n in range(8)]
    await futures[0]
    later = gathering.submit(8)
    await gathering.close()
    assert [future.result() for future in [*futures, later]] == [n * 10 for n in range(9)]


async def test_a_lane_does_not_run_in_the_context_of_its_first_caller():
    request_id = contextvars.ContextVar("request_id", default="nobody's")
    seen = []

    async def send(asks):
        seen.append(request_id.get())
        return asks

    gathering = Coalescer(send=send, lanes=1, batch_max=8, waiting_max=8, pacer=Pacer())
    request_id.set("ada's")
    await gathering.submit(1)
    assert seen == ["nobody's"]
