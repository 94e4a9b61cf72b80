"""Complete a lesson, go to the next: many learners, two replicas, a cache that fails all the time."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from chassis.batch import Item, Reply
from chassis.errors import Reason
from tests.learning.diagnostics import discrepancies
from tests.learning.faults import CacheFaults
from tests.learning.world import CACHE, Replica, School, World, body, unique

LEARNERS_AT_ONCE = 40
LESSONS = 25
SOON = {Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.OVERLOADED}


@dataclass
class Figures:
    """What a run came to."""

    cycles: int = 0
    false_locks: int = 0
    lost: int = 0
    repeated: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    cache_updated: int = 0
    false_locks_of_the_cache: int = 0


class Cycles:
    """Learners who go through courses side by side."""

    def __init__(self, world: World, replicas: list[Replica], seed: int) -> None:
        self._world = world
        self._replicas = replicas
        self._random = random.Random(seed)
        self.figures = Figures()

    async def run(self, cycles: int) -> Figures:
        """So many completions, each followed by navigations, in courses of their own."""
        while self.figures.cycles < cycles:
            school = await self._world.course(modules=5, lessons=LESSONS // 5, xp=1)
            learners = [await self._world.learner() for _ in range(LEARNERS_AT_ONCE)]
            for place in range(LESSONS):
                await self._cycle(learners, school, place)
            await self._look_for_lost(learners, school)
        self.figures.false_locks_of_the_cache = sum(
            int(replica.count("access_false_locks")) for replica in self._replicas
        )
        return self.figures

    async def _cycle(self, learners: list[str], school: School, place: int) -> None:
        done = await self._until_answered(
            [self._world.completion(user, school.names[place], unique("key")) for user in learners]
        )
        self.figures.cycles += len(learners)
        self.figures.cache_updated += sum(answer.cache_updated for answer in done)
        # Where they may go now, from another tab, with the token or without it; and back to what they did.
        seen = school.names[: place + 2]
        questions = []
        for user, answer in zip(learners, done, strict=True):
            token = answer.version if self._random.random() < 0.5 else 0
            questions.append(self._world.question(user, seen[-1], token))
            questions.append(self._world.question(user, self._random.choice(seen), 0))
        for answer in await self._until_answered(questions):
            self.figures.false_locks += not answer.accessible
            self.figures.sources["cache" if answer.source == CACHE else "store"] += 1

    async def _until_answered(self, items: list[Item[Any]]) -> list[Any]:
        """The answers. What is refused for a moment is sent again, with the same key."""
        answers: dict[int, Any] = {}
        while left := [place for place in range(len(items)) if place not in answers]:
            again = [self._world.again(items[place]) for place in left]
            outcomes = await self._random.choice(self._replicas).send(again)
            for place, item, outcome in zip(left, again, outcomes, strict=True):
                if isinstance(outcome, Reply):
                    answers[place] = body(item, outcome)
                else:
                    assert outcome.reason in SOON, outcome
                    self.figures.repeated += 1
        return [answers[place] for place in range(len(items))]

    async def _look_for_lost(self, learners: list[str], school: School) -> None:
        rows = await self._world.truth.fetch(
            "SELECT user_id, count(*) AS lessons FROM lesson_completions"
            " WHERE user_id = ANY($1::text[]) GROUP BY user_id",
            learners,
        )
        found = {row["user_id"]: row["lessons"] for row in rows}
        self.figures.lost += sum(len(school.names) - found.get(user, 0) for user in learners)


async def run_cycles(world: World, cycles: int, seed: int) -> Figures:
    replicas = [await world.start(read_seconds_max=0.05, write_seconds_max=seconds) for seconds in (0.2, 2.0)]
    faults = CacheFaults(world, seed)
    began = time.monotonic()
    async with faults.striking(every_seconds=0.1):
        figures = await Cycles(world, replicas, seed).run(cycles)
    print(f"\nseed {seed}: {figures} in {time.monotonic() - began:.0f} s; faults {dict(faults.done)}")
    return figures


async def test_no_lock_is_false_and_no_completion_is_lost(world: World) -> None:
    figures = await run_cycles(world, 2_000, seed=random.randrange(2**32))
    assert (figures.false_locks, figures.lost) == (0, 0)
    assert await discrepancies(world.truth) == []


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_no_lock_is_false_and_no_completion_is_lost_in_a_hundred_thousand_cycles(world: World) -> None:
    figures = await run_cycles(world, 100_000, seed=random.randrange(2**32))
    assert (figures.false_locks, figures.lost) == (0, 0)
    assert await discrepancies(world.truth) == []
