"""Stores of different sizes take turns, and their costs are compared in pairs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from bench.scale.measuring import Cost
from bench.scale.pairs import (
    ACTIVE_LEARNERS,
    AFTER_A_CHECKPOINT,
    BETWEEN_CHECKPOINTS,
    STRANGERS,
    WARM_UPS,
    Comparison,
    Store,
    compare,
    measure_pairs,
    take_turns,
)
from bench.scale.run import has_grown


def cost(service: float, backend: float = 0.0, wall: float = 1.0) -> Cost:
    return Cost(
        wall_us=wall,
        service_cpu_us=service,
        backend_cpu_us=backend,
        wal_bytes=0.0,
        pages_hit=0.0,
        pages_read=0.0,
    )


class Recorder:
    """Stands for the measure and for the subject of one store: it notes which step comes when."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes
        self.costs: dict[str, Cost] = {}
        self.chosen: list[list[int]] = []

    async def checkpoint(self) -> None:
        self.notes.append(f"{self.name} checkpoint")

    async def round(self, measure: Recorder, learners: list[int], _batches: int) -> AsyncIterator[None]:
        self.chosen.append(learners)
        for step in ("start", "read"):
            measure.costs[step] = cost(1.0)
            self.notes.append(f"{self.name} {step}")
            yield


def store(name: str, notes: list[str], *, learners: int = 500) -> tuple[Store, Recorder]:
    recorder = Recorder(name, notes)
    made = Store(
        size=learners * 20,
        learners=learners,
        size_mib=1.0,
        subject=cast("Any", recorder),
        measure=cast("Any", recorder),
        chance=random.Random(1),
    )
    return made, recorder


async def test_each_step_of_one_store_is_followed_by_the_same_step_of_the_other():
    notes: list[str] = []
    rounds = [
        recorder.round(recorder, [], 1) for _, recorder in (store("small", notes), store("large", notes))
    ]
    await take_turns(rounds)
    assert notes == ["small start", "large start", "small read", "large read"]


async def test_the_order_within_a_pair_alternates_and_warming_up_does_not_count():
    notes: list[str] = []
    (small, _), (large, _) = store("small", notes), store("large", notes)
    await measure_pairs([small, large], batches=1, pairs=2)
    started = [note for note in notes if note.endswith("start")]
    assert started[:4] == ["small start", "large start", "large start", "small start"]
    assert len(started) == 2 * (WARM_UPS + 2 + 1 + 1)
    counted = {phase: len(rounds) for phase, rounds in small.rounds.items()}
    assert counted == {BETWEEN_CHECKPOINTS: 2, AFTER_A_CHECKPOINT: 1, STRANGERS: 1}
    assert {phase: len(rounds) for phase, rounds in large.rounds.items()} == counted
    checkpoints = [note for note in notes if note.endswith("checkpoint")]
    assert checkpoints == ["small checkpoint", "large checkpoint"]


async def test_strangers_are_met_once_and_only_where_there_are_enough():
    notes: list[str] = []
    (small, _), (large, of_large) = store("small", notes), store("large", notes, learners=5000)
    active = set(large.active)
    assert len(active) == ACTIVE_LEARNERS
    await measure_pairs([small, large], batches=15, pairs=3)
    strangers = [learner for chosen in of_large.chosen[-2:] for learner in chosen]
    assert len(strangers) == len(set(strangers)) == 2 * 15 * 32
    assert not active & set(strangers)
    assert set(small.choose(STRANGERS, 15 * 32)) == set(small.active)


def test_the_median_of_the_pairs_tells_not_the_ratio_of_the_medians():
    small = [{"start": cost(100.0)}, {"start": cost(200.0)}, {"start": cost(400.0)}]
    large = [{"start": cost(110.0)}, {"start": cost(220.0)}, {"start": cost(400.0, 400.0)}]
    (compared,) = compare(small, large)
    assert compared.cpu is not None
    ratios = (compared.cpu.least, compared.cpu.median, compared.cpu.greatest)
    assert ratios == pytest.approx((1.1, 1.1, 2.0))
    assert (compared.small.cpu_us, compared.large.service_cpu_us) == (200.0, 220.0)
    assert compared.backend is None
    assert compared.elapsed is not None
    assert compared.elapsed.median == 1.0


@pytest.mark.parametrize(
    ("before", "after", "grown"), [(100.0, 119.0, False), (100.0, 121.0, True), (10.0, 14.0, False)]
)
def test_a_step_has_grown_by_more_than_a_fifth_and_more_than_the_clock_can_tell(
    before: float, after: float, *, grown: bool
):
    (compared,) = compare([{"start": cost(before)}], [{"start": cost(after)}])
    assert isinstance(compared, Comparison)
    assert has_grown(compared) is grown
