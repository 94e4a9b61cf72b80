"""XP becomes levels by the catalog, each level-up is told once, and achievements are awarded once."""

from __future__ import annotations

from datetime import timedelta

from tests.progress.conftest import Progress
from tests.progress.results import MIDDAY, completed, learner
from tests.progress.specializations import (
    Standing,
    achievements,
    orders,
    put_levels,
    specialization_name,
    standing,
)


async def test_the_level_is_the_highest_one_whose_requirement_is_met(progress: Progress) -> None:
    ada, player = learner("ada"), specialization_name()
    await put_levels(progress.truth, player, [0, 10, 20, 20, 1000])

    await progress.tell(completed(ada, "s1", specialization=player, xp=9))
    assert await standing(progress.truth, ada, player) == Standing(9, 1, 5, 0, 0)
    await progress.tell(completed(ada, "s2", specialization=player, xp=1))
    assert await standing(progress.truth, ada, player) == Standing(10, 2, 5, 0, 0)
    await progress.tell(completed(ada, "s3", specialization=player, xp=989))
    assert await standing(progress.truth, ada, player) == Standing(999, 4, 5, 0, 0)

    assert [(order.level, order.max_level) for order in await orders(progress.truth, ada)] == [
        (1, 5),
        (2, 5),
        (4, 5),  # levels that are reached together are told as one
    ]
    assert await progress.discrepancies() == []


async def test_a_result_that_is_told_again_raises_no_level_again(progress: Progress) -> None:
    ada, player = learner("ada"), specialization_name()
    await put_levels(progress.truth, player, [0, 10])
    for _ in range(2):
        await progress.tell(
            completed(ada, "s1", specialization=player), completed(ada, "s1", specialization=player)
        )
    assert await standing(progress.truth, ada, player) == Standing(10, 2, 2, 0, 0)
    assert len(await orders(progress.truth, ada)) == 1


async def test_xp_of_a_specialization_that_the_catalog_lacks_is_kept_without_a_level(
    progress: Progress,
) -> None:
    ada, later = learner("ada"), specialization_name()
    await progress.tell(completed(ada, "s1", specialization=later, xp=50))
    assert await standing(progress.truth, ada, later) == Standing(50, 0, 0, 0, 0)
    assert await orders(progress.truth, ada) == []

    await put_levels(progress.truth, later, [0, 50])
    await progress.tell(completed(ada, "s2", specialization=later, xp=1))
    assert await standing(progress.truth, ada, later) == Standing(51, 2, 2, 0, 0)


async def test_xp_without_a_specialization_counts_in_the_total_alone(progress: Progress) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1", specialization=""))
    assert (await progress.stats(ada)).statistics.xp == 10
    assert await progress.rows("specialization_progress", [ada]) == []


async def test_a_shorter_catalog_takes_no_level_away(progress: Progress) -> None:
    ada, player = learner("ada"), specialization_name()
    await put_levels(progress.truth, player, [0, 1, 2])
    await progress.tell(completed(ada, "s1", specialization=player))
    await put_levels(progress.truth, player, [0, 1000])
    await progress.tell(completed(ada, "s2", specialization=player))
    assert await standing(progress.truth, ada, player) == Standing(20, 3, 3, 0, 0)


async def test_achievements_are_awarded_when_their_rule_is_met_and_only_once(progress: Progress) -> None:
    ada, player = learner("ada"), specialization_name()
    await put_levels(progress.truth, player, [0, 15, 25])
    told = [
        completed(ada, f"s{n}", specialization=player, closed_at=MIDDAY + timedelta(days=n)) for n in (0, 2)
    ]

    await progress.tell(told[0])
    assert await achievements(progress.truth, ada) == {"first-session"}
    await progress.tell(told[1])
    assert await achievements(progress.truth, ada) == {"first-session", "first-level-up"}
    # The day between the other two arrives last, and so does the XP for the highest level.
    await progress.tell(completed(ada, "s1", specialization=player, closed_at=MIDDAY + timedelta(days=1)))
    assert await achievements(progress.truth, ada) == {
        "first-session",
        "first-level-up",
        "top-level",
        "streak-3",
    }
    before = await progress.rows("learner_achievements", [ada])
    await progress.tell(*told, completed(ada, "s9", specialization=player))
    assert await progress.rows("learner_achievements", [ada]) == before
