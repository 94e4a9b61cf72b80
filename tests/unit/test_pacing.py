"""Answers that arrive together reach their callers in order, a bounded number in each turn."""

from __future__ import annotations

import asyncio

import pytest

from chassis.errors import Reason, ServiceError
from chassis.rpc.pacing import Pacer


def callers(count: int) -> list[asyncio.Future[int]]:
    return [asyncio.get_running_loop().create_future() for _ in range(count)]


def answered(futures: list[asyncio.Future[int]]) -> list[int]:
    return [place for place, future in enumerate(futures) if future.done()]


async def test_each_turn_gives_a_bounded_number_of_answers_and_the_first_come_at_once():
    pacer, futures = Pacer(paced=lambda: True, per_turn_max=3), callers(8)
    pacer.give(zip(futures, range(8), strict=True))
    seen = [answered(futures)]
    for _ in range(2):
        await asyncio.sleep(0)
        seen.append(answered(futures))
    assert seen == [[0, 1, 2], [0, 1, 2, 3, 4, 5], list(range(8))]
    assert [future.result() for future in futures] == list(range(8))


async def test_a_second_message_waits_for_its_turn_behind_the_first():
    pacer, first, second = Pacer(paced=lambda: True, per_turn_max=2), callers(3), callers(2)
    pacer.give(zip(first, range(3), strict=True))
    pacer.give(zip(second, range(2), strict=True))
    assert (answered(first), answered(second)) == ([0, 1], [])
    await asyncio.sleep(0)
    assert (answered(first), answered(second)) == ([0, 1, 2], [0])
    pacer.finish()
    assert answered(second) == [0, 1]


async def test_callers_who_left_take_no_ones_place_and_refusals_are_raised():
    pacer, futures = Pacer(paced=lambda: True, per_turn_max=2), callers(4)
    futures[0].cancel()
    futures[1].cancel()
    pacer.give(zip(futures, [0, 1, ServiceError(Reason.NOT_FOUND), 3], strict=True))
    with pytest.raises(ServiceError):
        futures[2].result()
    assert futures[3].result() == 3


async def test_the_next_message_is_given_at_once_when_nobody_waits_any_more():
    pacer = Pacer(paced=lambda: True, per_turn_max=2)
    pacer.give(zip(callers(2), range(2), strict=True))
    pacer.give(zip(second := callers(3), range(3), strict=True))
    assert answered(second) == [0, 1]
    pacer.finish()
    await asyncio.sleep(0)  # the turn that was planned finds nothing
    pacer.give(zip(third := callers(2), range(2), strict=True))
    assert answered(third) == [0, 1]


async def test_a_process_that_is_not_crowded_gives_all_at_once():
    crowded = True
    pacer, futures = Pacer(paced=lambda: crowded, per_turn_max=1), callers(9)
    pacer.give(zip(futures, range(9), strict=True))
    assert answered(futures) == [0]
    crowded = False
    await asyncio.sleep(0)
    assert answered(futures) == list(range(9))
