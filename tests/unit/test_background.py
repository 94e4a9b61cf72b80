"""Background work goes on after any exception, has metrics, and stops in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from chassis.process import background as module
from chassis.process.background import AT_ONCE, Background, Job
from chassis.telemetry.metrics import Metrics
from tests.support.waiting import eventually

NEVER = 3600.0


class Rounds:
    """Counts its rounds; each does what the next of `acts` does, and the last of them again and again."""

    def __init__(self, *acts: Callable[[], Any]) -> None:
        self.acts = list(acts)
        self.count = 0

    async def __call__(self) -> float | None:
        self.count += 1
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        result = act()
        return await result if asyncio.iscoroutine(result) else result


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def nothing() -> None:
    """The round of a job that found nothing to do."""


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(service="test")


@pytest.fixture
async def background(metrics: Metrics) -> AsyncIterator[Background]:
    background = Background(metrics=metrics)
    yield background
    await background.stop()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.0001)


def shown(metrics: Metrics, name: str, job: str) -> float:
    for line in metrics.render().decode().splitlines():
        if line.startswith(f'homeroom_{name}{{job="{job}"}} '):
            return float(line.rpartition(" ")[2])
    return 0.0


async def test_a_job_is_done_at_the_start_and_again_after_its_interval(background: Background) -> None:
    rounds = Rounds(nothing)
    background.add("tidy", rounds, interval_seconds=0.001)
    background.start()
    await eventually(lambda: rounds.count >= 3)


async def test_a_job_that_found_nothing_rests_until_it_is_woken(background: Background) -> None:
    rounds, beside = Rounds(nothing), Rounds(lambda: AT_ONCE)
    job = background.add("tidy", rounds, interval_seconds=NEVER)
    background.add("beside", beside, interval_seconds=NEVER)
    background.start()
    await eventually(lambda: beside.count >= 100)
    assert rounds.count == 1
    job.wake()
    await eventually(lambda: rounds.count == 2)


async def test_a_job_with_more_to_do_goes_on_at_once_and_lets_others_have_their_turn(
    background: Background,
) -> None:
    pages = [AT_ONCE] * 1000
    rounds = Rounds(lambda: pages.pop() if pages else None)
    background.add("purge", rounds, interval_seconds=NEVER)
    background.start()
    turns = 0
    while pages:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 1000


async def test_a_wake_during_a_round_means_one_more_round(background: Background) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        await go_on.wait()

    rounds = Rounds(wait, nothing)
    job = background.add("relay", rounds, interval_seconds=NEVER)
    background.start()
    await started.wait()
    job.wake()
    job.wake()
    go_on.set()
    await eventually(lambda: rounds.count == 2)
    beside = Rounds(lambda: AT_ONCE)
    task = asyncio.create_task(_repeat(beside, 100))
    await task
    assert rounds.count == 2, "two wakes during one round are one more round"


async def _repeat(rounds: Rounds, times: int) -> None:
    for _ in range(times):
        await rounds()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a bug"), ServiceError(Reason.UNAVAILABLE), TimeoutError(), asyncio.CancelledError()],
    ids=repr,
)
async def test_a_round_that_raises_is_counted_and_tried_again(
    background: Background, metrics: Metrics, quick_retries: None, error: BaseException
) -> None:
    rounds = Rounds(failing(error), failing(error), nothing)
    job = background.add("sweep", rounds, interval_seconds=NEVER)
    began_at = time.time()
    background.start()
    await eventually(lambda: rounds.count == 3)
    await eventually(lambda: job.last_success_at >= began_at)
    assert job.failures_in_a_row == 0
    assert shown(metrics, "job_failures_total", "sweep") == 2
    assert shown(metrics, "job_seconds_count", "sweep") == 3
    assert shown(metrics, "job_last_success_timestamp_seconds", "sweep") >= began_at


async def test_a_task_that_is_cancelled_inside_a_round_does_not_end_the_job(
    background: Background, quick_retries: None
) -> None:
    async def await_a_cancelled_task() -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    rounds = Rounds(await_a_cancelled_task, nothing)
    background.add("sweep", rounds, interval_seconds=NEVER)
    background.start()
    await eventually(lambda: rounds.count == 2)


async def test_a_job_that_fails_is_not_driven_by_wakes(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "full_jitter", lambda _failures, **_limits: NEVER)
    rounds, beside = Rounds(failing(RuntimeError())), Rounds(nothing)
    job = background.add("relay", rounds, interval_seconds=NEVER)
    other = background.add("beside", beside, interval_seconds=NEVER)
    background.start()
    await eventually(lambda: job.failures_in_a_row == 1)
    for count in range(1, 20):
        job.wake()
        other.wake()
        await eventually(lambda count=count: beside.count >= count)
    assert rounds.count == 1


async def test_a_job_that_hangs_does_not_delay_the_others(background: Background) -> None:
    rounds = Rounds(nothing)
    background.add("stuck", Rounds(asyncio.Event().wait), interval_seconds=0.001, cancel_at_stop=True)
    background.add("tidy", rounds, interval_seconds=0.001)
    background.start()
    await eventually(lambda: rounds.count >= 3)


async def test_stopping_waits_for_the_round_under_way_and_begins_no_other(background: Background) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> float:
        started.set()
        await go_on.wait()
        return AT_ONCE

    rounds = Rounds(wait)
    background.add("relay", rounds, interval_seconds=0.001)
    background.start()
    await started.wait()
    stopping = asyncio.create_task(background.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    go_on.set()
    await stopping
    assert rounds.count == 1


async def test_stopping_does_not_wait_for_a_pause(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "full_jitter", lambda _failures, **_limits: NEVER)
    resting = background.add("resting", Rounds(nothing), interval_seconds=NEVER)
    failed = background.add("failed", Rounds(failing(RuntimeError())), interval_seconds=NEVER)
    waiting = Rounds(lambda: NEVER)
    background.add("waiting", waiting, interval_seconds=NEVER)
    background.start()
    await eventually(lambda: resting.last_success_at and failed.failures_in_a_row and waiting.count)
    async with asyncio.timeout(5):
        await background.stop()


async def test_stopping_cancels_a_round_that_waits_for_events(background: Background) -> None:
    ended = asyncio.Event()

    async def follow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    rounds = Rounds(follow)
    background.add("feed", rounds, interval_seconds=0.001, cancel_at_stop=True)
    background.start()
    await eventually(lambda: rounds.count == 1)
    async with asyncio.timeout(5):
        await background.stop()
    assert ended.is_set()
    assert rounds.count == 1


async def test_stopping_gives_up_a_round_that_does_not_end(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS_MAX", 0.01)
    monkeypatch.setattr(module, "CANCEL_SECONDS_MAX", 0.01)
    go_on = asyncio.Event()

    async def refuse_to_end() -> None:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue

    polite, stubborn = Rounds(asyncio.Event().wait), Rounds(refuse_to_end)
    background.add("hanging", polite, interval_seconds=NEVER)
    background.add("stubborn", stubborn, interval_seconds=NEVER)
    background.start()
    await eventually(lambda: polite.count and stubborn.count)
    async with asyncio.timeout(5):
        await background.stop()
    go_on.set()


async def test_stopping_what_never_began_is_no_error(background: Background) -> None:
    background.add("tidy", Rounds(nothing), interval_seconds=1)
    await background.stop()


def test_a_name_belongs_to_one_job(metrics: Metrics) -> None:
    background = Background(metrics=metrics)
    assert isinstance(background.add("tidy", Rounds(nothing), interval_seconds=1), Job)
    with pytest.raises(ValueError, match="tidy"):
        background.add("tidy", Rounds(nothing), interval_seconds=1)
