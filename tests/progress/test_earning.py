"""What every writer of progress relies on: an operation earns once, and its learner's version says so."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date
from uuid import uuid4

import pytest

from chassis.postgres import Connection
from progress_service.domain.earnings import Earned, Earning
from progress_service.domain.statistics import UserId
from progress_service.store.earning import earn
from progress_service.store.learners import insert_learners, lock_learners
from tests.progress.conftest import Progress
from tests.progress.results import MIDDAY, learner
from tests.progress.specializations import Standing, put_levels, specialization_name, standing


async def earned(progress: Progress, *earnings: Earning) -> dict[UserId, Earned]:
    learners = {earning.user_id for earning in earnings}
    deadline = time.monotonic() + 10
    await insert_learners(progress.database, learners, deadline=deadline)

    async def work(connection: Connection) -> dict[UserId, Earned]:
        assert await lock_learners(connection, learners, wait=True) == learners
        return await earn(connection, earnings)

    return await progress.database.write(work, deadline=deadline)


def lesson(user_id: UserId, specialization: str, xp: int = 10) -> Earning:
    return Earning(
        user_id=user_id,
        operation_id=uuid4(),
        earned_at=MIDDAY,
        specialization=specialization,
        xp=xp,
        active_day=date(2026, 3, 29),
        completed_lessons=1,
    )


@pytest.fixture
async def player(progress: Progress) -> str:
    name = specialization_name()
    await put_levels(progress.truth, name, [0, 10, 20])
    return name


async def test_an_operation_that_is_repeated_earns_nothing(progress: Progress, player: str) -> None:
    ada = learner("ada")
    first, second = lesson(ada, player), lesson(ada, player)

    both = (await earned(progress, first, first, second))[ada]
    assert (both.version, both.xp) == (2, 20)
    assert [(change.level_before, change.level) for change in both.levels] == [(0, 3)]
    assert both.achievements == ("first-lesson", "top-level", "first-level-up")

    again = (await earned(progress, second, first))[ada]
    assert again == Earned(version=2)
    assert await standing(progress.truth, ada, player) == Standing(20, 3, 3, 0, 0)
    totals = (await progress.stats(ada)).statistics
    assert (totals.xp, totals.completed_lessons, totals.version) == (20, 2, 2)


async def test_an_operation_with_other_values_earns_nothing_either(progress: Progress, player: str) -> None:
    ada = learner("ada")
    first = lesson(ada, player)
    await earned(progress, first)
    assert (await earned(progress, replace(first, xp=500)))[ada] == Earned(version=1)
    assert (await progress.stats(ada)).statistics.xp == 10


async def test_an_earning_without_xp_counts_and_leaves_no_entry(progress: Progress, player: str) -> None:
    ada = learner("ada")
    assert (await earned(progress, lesson(ada, player, xp=0)))[ada] == Earned(
        version=1, achievements=("first-lesson",)
    )
    assert await progress.rows("xp_entries", [ada]) == []
    assert await standing(progress.truth, ada, player) is None


async def test_earnings_of_many_learners_in_one_batch_stay_apart(progress: Progress, player: str) -> None:
    ada, bob = learner("ada"), learner("bob")
    both = await earned(progress, lesson(ada, player), lesson(bob, player, xp=25), lesson(ada, "", xp=3))
    assert (both[ada].version, both[ada].xp) == (2, 13)
    assert (both[bob].version, both[bob].xp) == (1, 25)
    assert await standing(progress.truth, ada, player) == Standing(10, 2, 3, 0, 0)
    assert await standing(progress.truth, bob, player) == Standing(25, 3, 3, 0, 0)


async def test_nothing_earns_nothing(progress: Progress) -> None:
    assert await earned(progress) == {}
