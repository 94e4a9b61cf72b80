"""A watched process is started again when it dies, later and later, and left alone once let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from homeroom.watch import Watch, backoff_seconds


class Patient:
    """A child that dies when the test says so, and may refuse to start."""

    name = "patient"

    def __init__(self) -> None:
        self.starts = 0
        self.refusals = 0
        self.stopped = False
        self._death = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return None if self._death.is_set() else 100 + self.starts

    async def start(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("not today")
        self.starts += 1
        self._death = asyncio.Event()

    async def wait(self) -> int:
        await self._death.wait()
        return -9

    async def stop(self) -> None:
        self.stopped = True
        self._death.set()

    def die(self) -> None:
        self._death.set()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watch(patient: Patient, said: list[str]) -> Watch:
    return Watch(patient, on_change=lambda: None, say=said.append)


async def test_a_dead_child_is_started_again_and_counted(
    patient: Patient, watch: Watch, said: list[str]
) -> None:
    await watch.start()
    assert watch.restarts == 0
    patient.die()
    await eventually(lambda: patient.starts == 2)
    patient.die()
    await eventually(lambda: patient.starts == 3)
    assert watch.restarts == 2
    assert "patient ended (signal 9)" in said[0]
    await watch.stop()


async def test_a_child_that_cannot_start_again_is_tried_until_it_can(
    patient: Patient, watch: Watch, said: list[str]
) -> None:
    await watch.start()
    patient.refusals = 2
    patient.die()
    await eventually(lambda: patient.starts == 2)
    assert watch.restarts == 3
    assert sum("not today" in line for line in said) == 2
    await watch.stop()


async def test_a_first_start_that_fails_is_the_callers(patient: Patient, watch: Watch) -> None:
    patient.refusals = 1
    with pytest.raises(RuntimeError, match="not today"):
        await watch.start()
    assert patient.starts == 0


async def test_a_stopped_child_stays_stopped(patient: Patient, watch: Watch) -> None:
    await watch.start()
    await watch.stop()
    assert patient.stopped
    assert patient.starts == 1
    assert len([task for task in asyncio.all_tasks() if task.get_name() == "watch patient"]) == 0


async def test_a_planned_restart_is_no_death(patient: Patient, watch: Watch, said: list[str]) -> None:
    await watch.start()
    await watch.restart(patient.stop)
    assert patient.starts == 2
    assert watch.restarts == 0
    assert said == []
    patient.die()
    await eventually(lambda: patient.starts == 3)
    await watch.stop()


async def test_every_change_is_told(patient: Patient) -> None:
    seen: list[int | None] = []
    watch = Watch(patient, on_change=lambda: seen.append(patient.pid), say=lambda _: None)
    await watch.start()
    patient.die()
    await eventually(lambda: patient.starts == 2)
    await watch.stop()
    assert seen == [101, None, 102, None]


def test_the_pause_doubles_up_to_a_bound_and_is_never_the_same_for_all() -> None:
    for deaths, ceiling in ((0, 0.1), (1, 0.2), (3, 0.8), (10, 5.0), (100_000, 5.0)):
        pauses = [backoff_seconds(deaths) for _ in range(200)]
        assert all(ceiling / 2 <= pause <= ceiling for pause in pauses)
        assert len(set(pauses)) > 1
