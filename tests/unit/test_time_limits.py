"""Time limits end their block, and nothing but their block."""

from __future__ import annotations

import asyncio

import pytest

from chassis.time_limits import TimeLimit


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_block_within_its_time_is_left_alone() -> None:
    with TimeLimit(10.0) as limit:
        await asyncio.sleep(0)
    assert not limit.expired


@pytest.mark.parametrize("seconds", [0.01, 0.0, -1.0])
async def test_a_block_that_takes_too_long_raises_a_timeout(seconds: float) -> None:
    with pytest.raises(TimeoutError), TimeLimit(seconds) as limit:
        await forever()
    assert limit.expired
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    await asyncio.sleep(0)


async def test_a_cancellation_from_outside_stays_one() -> None:
    seen: list[bool] = []

    async def work() -> None:
        limit = TimeLimit(10.0)
        try:
            with limit:
                await forever()
        finally:
            seen.append(limit.expired)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [False]


async def test_a_cancellation_in_the_moment_of_the_expiry_stays_one() -> None:
    async def work() -> None:
        with TimeLimit(10.0) as limit:
            loop.call_soon(limit._expire)
            loop.call_soon(task.cancel)
            await forever()

    loop = asyncio.get_running_loop()
    task = loop.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_inner_one_of_two_limits_expires_alone() -> None:
    with TimeLimit(10.0) as outer:
        with pytest.raises(TimeoutError), TimeLimit(0.0) as inner:
            await forever()
        await asyncio.sleep(0)
    assert (outer.expired, inner.expired) == (False, True)


async def test_the_outer_one_of_two_limits_passes_through_the_inner_one() -> None:
    with pytest.raises(TimeoutError), TimeLimit(0.0) as outer, TimeLimit(10.0) as inner:
        await forever()
    assert (outer.expired, inner.expired) == (True, False)


async def test_another_error_is_raised_as_it_is() -> None:
    with pytest.raises(LookupError), TimeLimit(10.0):
        raise LookupError


async def test_a_late_error_of_the_block_wins_over_the_timeout() -> None:
    async def failing() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            raise LookupError from None

    with pytest.raises(LookupError), TimeLimit(0.0) as limit:
        await failing()
    assert limit.expired
