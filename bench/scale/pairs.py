"""Rounds in several stores that take turns, and how the costs of one are related to those of another."""

from __future__ import annotations

import gc
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from bench.scale.measuring import BATCH, Cost, Measure, Subject

BETWEEN_CHECKPOINTS = "between checkpoints"
AFTER_A_CHECKPOINT = "right after one"
STRANGERS = "learners nobody has read"
# Whom the first two phases are about, in each store; the smallest store has not many more.
ACTIVE_LEARNERS = 480
WARM_UPS = 2

Costs = Mapping[str, Cost]
"""What each step has cost in one round."""


@dataclass
class Store:
    """A store under test, with a service of its own.

    Attributes:
        rounds: what each round has cost, by phase. The n-th rounds of two stores are a pair.
    """

    size: int
    learners: int
    size_mib: float
    subject: Subject
    measure: Measure
    chance: random.Random
    rounds: dict[str, list[Costs]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        everybody = self.chance.sample(range(self.learners), self.learners)
        self.active = everybody[:ACTIVE_LEARNERS]
        self.strangers = everybody[ACTIVE_LEARNERS:]

    def choose(self, phase: str, count: int) -> Sequence[int]:
        """The learners of the next round. A store that has too few strangers takes the active ones again."""
        if phase == STRANGERS and len(self.strangers) >= count:
            chosen, self.strangers = self.strangers[:count], self.strangers[count:]
            return chosen
        return self.chance.sample(self.active, len(self.active))


async def measure_pairs(stores: Sequence[Store], *, batches: int, pairs: int) -> None:
    """Measure the same rounds in all stores, which take turns after each step; keep what they cost.

    Two turns of a pair are milliseconds apart, so what else the machine does slows both. The stores take
    their turns in one order and then in the other.
    """
    orders = itertools.cycle([stores, stores[::-1]])
    for _ in range(WARM_UPS):
        await _play(next(orders), BETWEEN_CHECKPOINTS, batches)
    for phase, count in (
        (BETWEEN_CHECKPOINTS, pairs),
        (AFTER_A_CHECKPOINT, (pairs + 1) // 2),
        (STRANGERS, (pairs + 1) // 2),
    ):
        for _ in range(count):
            if phase == AFTER_A_CHECKPOINT:
                for store in stores:
                    await store.measure.checkpoint()
            await _play(next(orders), phase, batches)
            for store in stores:
                store.rounds.setdefault(phase, []).append(store.measure.costs)


async def _play(stores: Sequence[Store], phase: str, batches: int) -> None:
    rounds = []
    for store in stores:
        store.measure.costs = {}
        learners = store.choose(phase, batches * BATCH)
        rounds.append(store.subject.round(store.measure, learners, batches))
    gc.collect()
    # A collection of garbage would be charged to the step in which it happens to come.
    gc.disable()
    try:
        await take_turns(rounds)
    finally:
        gc.enable()


async def take_turns(rounds: Sequence[AsyncIterator[None]]) -> None:
    """Take one step of each round, then the next one of each, until all have ended."""
    ended = object()
    running = list(rounds)
    while running:
        running = [each for each in running if await anext(each, ended) is not ended]


@dataclass(frozen=True)
class Ratios:
    """The ratios of the pairs: the median tells, the least and the greatest show the noise."""

    median: float
    least: float
    greatest: float


@dataclass(frozen=True)
class Comparison:
    """What a step costs in two stores (medians of the rounds), and the ratios of the pairs.

    `cpu` is that of the service and of the backend together. A ratio is None if the step takes none of it in
    the smaller store.
    """

    step: str
    small: Cost
    large: Cost
    cpu: Ratios | None
    service: Ratios | None
    backend: Ratios | None
    elapsed: Ratios | None


def compare(small: Sequence[Costs], large: Sequence[Costs]) -> list[Comparison]:
    """How each step's cost in one store is related to that in another, from rounds that are pairs."""
    return [_compare(step, list(zip(small, large, strict=True))) for step in small[0]]


def _compare(step: str, pairs: Sequence[tuple[Costs, Costs]]) -> Comparison:
    before = [small[step] for small, _ in pairs]
    after = [large[step] for _, large in pairs]

    def related(figure: Callable[[Cost], float]) -> Ratios | None:
        if not all(map(figure, before)):
            return None
        ratios = [figure(late) / figure(early) for early, late in zip(before, after, strict=True)]
        return Ratios(median(ratios), min(ratios), max(ratios))

    return Comparison(
        step=step,
        small=median_of(before),
        large=median_of(after),
        cpu=related(lambda cost: cost.cpu_us),
        service=related(lambda cost: cost.service_cpu_us),
        backend=related(lambda cost: cost.backend_cpu_us),
        elapsed=related(lambda cost: cost.wall_us),
    )


def median_of(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""
    columns = [asdict(cost) for cost in costs]
    return Cost(**{name: median(column[name] for column in columns) for name in columns[0]})
