"""The catalog of specializations: what it accepts, and what a change of it does to learners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from chassis.errors import Reason, ServiceError
from progress_service.operations.catalog_changes import ROWS_PER_ROUND, LevelRaising
from progress_service.store.catalog_changes import CatalogChangeStore
from protos.progress.v1 import achievements_pb2
from protos.progress.v1 import specializations_pb2 as pb
from tests.progress.conftest import Progress
from tests.progress.results import completed, learner
from tests.progress.serving import Client, served
from tests.progress.specializations import Standing, achievements, orders, specialization_name, standing


@pytest.fixture
async def client(progress: Progress) -> AsyncIterator[Client]:
    async with served(progress.database) as client:
        yield client


def wanted(
    specialization: str, requirements: Sequence[int], *, name: str = "Player"
) -> pb.PutSpecializationRequest:
    return pb.PutSpecializationRequest(
        specialization=specialization,
        name=name,
        levels=[
            pb.Level(level=level, name=f"Level {level}", xp_required=xp)
            for level, xp in enumerate(requirements, start=1)
        ],
    )


async def put(client: Client, specialization: str, requirements: Sequence[int]) -> None:
    await client.ask(
        "SpecializationService/PutSpecialization",
        wanted(specialization, requirements),
        "root",
        role="admin",
    )


async def progress_of(client: Client, user_id: str) -> dict[str, pb.SpecializationProgress]:
    page = await client.ask(
        "SpecializationService/ListSpecializationProgress", pb.ListSpecializationProgressRequest(), user_id
    )
    return {each.specialization: each for each in page.specializations}


async def raise_all(progress: Progress) -> None:
    raising = LevelRaising(store=CatalogChangeStore(progress.database), wake_relay=lambda: None)
    while await raising.raise_due() is not None:
        pass


async def version_of(progress: Progress, specialization: str) -> int:
    version = await progress.truth.fetchval(
        "SELECT version FROM specializations WHERE specialization = $1", specialization
    )
    return int(version)


async def test_what_was_put_is_listed_page_by_page(client: Client) -> None:
    names = sorted(specialization_name("LIST") for _ in range(3))
    for name in names:
        await put(client, name, [0, 10, 10])
    listed: list[pb.Specialization] = []
    token = ""
    while True:
        page = await client.ask(
            "SpecializationService/ListSpecializations",
            pb.ListSpecializationsRequest(page_size=2, page_token=token),
            "ada",
        )
        listed += page.specializations
        token = page.next_page_token
        if not token:
            break
    assert [each.specialization for each in listed if each.specialization in names] == names
    shown = next(each for each in listed if each.specialization == names[0])
    assert shown == pb.Specialization(
        specialization=names[0], name="Player", levels=wanted(names[0], [0, 10, 10]).levels
    )


REFUSED = {
    "no level": [],
    "a first level that requires XP": [1, 2],
    "a requirement below the one before": [0, 10, 9],
    "too much XP": [0, 1_000_000_001],
    "too many levels": list(range(1001)),
}


@pytest.mark.parametrize("requirements", REFUSED.values(), ids=REFUSED.keys())
async def test_levels_that_make_no_ladder_are_refused(client: Client, requirements: list[int]) -> None:
    with pytest.raises(ServiceError) as refusal:
        await put(client, specialization_name(), requirements)
    assert refusal.value.reason is Reason.INVALID_ARGUMENT


async def test_levels_with_a_gap_are_refused_and_named(client: Client) -> None:
    request = wanted(specialization_name(), [0, 10, 20])
    request.levels[1].level = 3
    with pytest.raises(ServiceError) as refusal:
        await client.ask("SpecializationService/PutSpecialization", request, "root", role="admin")
    assert refusal.value.violations[0].field == "levels[1].level"


async def test_only_an_admin_changes_the_catalog(client: Client) -> None:
    for role in ("learner", "instructor"):
        with pytest.raises(ServiceError) as refusal:
            await client.ask(
                "SpecializationService/PutSpecialization",
                wanted(specialization_name(), [0]),
                "ada",
                role=role,
            )
        assert refusal.value.reason is Reason.PERMISSION_DENIED


async def test_levels_that_are_put_again_keep_their_version(client: Client, progress: Progress) -> None:
    player = specialization_name()
    await put(client, player, [0, 10])
    before = await version_of(progress, player)
    await put(client, player, [0, 10])
    assert await version_of(progress, player) == before
    await put(client, player, [0, 11])
    assert await version_of(progress, player) == before + 1


async def test_many_who_put_one_specialization_at_once_leave_the_levels_of_one_of_them(
    client: Client, progress: Progress
) -> None:
    player = specialization_name()
    ladders = [[0, *(place for _ in range(place))] for place in range(1, 11)]
    await asyncio.gather(*(put(client, player, ladder) for ladder in ladders))
    rows = await progress.truth.fetch(
        "SELECT xp_required FROM specialization_levels WHERE specialization = $1 ORDER BY level", player
    )
    assert [row["xp_required"] for row in rows] in ladders


async def test_the_progress_shows_what_the_next_level_requires(client: Client, progress: Progress) -> None:
    ada, player, coach = learner("ada"), specialization_name(), specialization_name("COACH")
    await put(client, player, [0, 10, 25])
    await put(client, coach, [0, 5])
    await progress.tell(
        completed(ada, "s1", specialization=player), completed(ada, "s2", specialization=coach)
    )
    shown = await progress_of(client, ada)
    assert shown[player] == pb.SpecializationProgress(
        specialization=player, xp=10, level=2, max_level=3, next_level_xp=25
    )
    assert shown[coach] == pb.SpecializationProgress(specialization=coach, xp=10, level=2, max_level=2)
    assert await progress_of(client, learner("nobody")) == {}


async def test_a_raised_requirement_takes_no_level_away(client: Client, progress: Progress) -> None:
    ada, player = learner("ada"), specialization_name()
    await put(client, player, [0, 10])
    await progress.tell(completed(ada, "s1", specialization=player))
    await put(client, player, [0, 1000])
    await raise_all(progress)
    assert await standing(progress.truth, ada, player) == Standing(10, 2, 2, 0, 0)
    assert len(await orders(progress.truth, ada)) == 1


async def test_a_lowered_requirement_raises_those_who_meet_it_now(client: Client, progress: Progress) -> None:
    player = specialization_name()
    learners = [learner() for _ in range(ROWS_PER_ROUND + 5)]
    await put(client, player, [0, 100])
    await progress.tell(*(completed(each, "s1", specialization=player) for each in learners))
    version = (await progress.stats(learners[0])).statistics.version

    await put(client, player, [0, 10])
    await raise_all(progress)

    for each in learners:
        assert await standing(progress.truth, each, player) == Standing(10, 2, 2, 0, 0)
    assert [order.level for order in await orders(progress.truth, learners[0])] == [1, 2]
    assert (await progress.stats(learners[0])).statistics.version == version + 1
    assert "first-level-up" in await achievements(progress.truth, learners[0])


async def test_two_replicas_that_raise_levels_at_once_raise_each_once(
    client: Client, progress: Progress
) -> None:
    player = specialization_name()
    learners = [learner() for _ in range(20)]
    await put(client, player, [0, 100])
    await progress.tell(*(completed(each, "s1", specialization=player) for each in learners))
    await put(client, player, [0, 10])

    await asyncio.gather(*(raise_all(progress) for _ in range(4)))
    await raise_all(progress)  # of whom another replica had locked

    for each in learners:
        assert await standing(progress.truth, each, player) == Standing(10, 2, 2, 0, 0)
        assert [order.level for order in await orders(progress.truth, each)] == [1, 2]


async def test_a_longer_ladder_is_told_to_the_licenses(client: Client, progress: Progress) -> None:
    ada, player = learner("ada"), specialization_name()
    await put(client, player, [0, 10])
    await progress.tell(completed(ada, "s1", specialization=player))
    await put(client, player, [0, 10, 1000])
    await raise_all(progress)
    assert [(each.level, each.max_level) for each in await orders(progress.truth, ada)] == [(2, 2), (2, 3)]


async def test_achievements_are_listed_with_their_times(client: Client, progress: Progress) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1"))
    page = await client.ask(
        "AchievementService/ListAchievements", achievements_pb2.ListAchievementsRequest(), ada
    )
    (shown,) = page.achievements
    assert (shown.achievement, shown.title) == ("first-session", "First session")
    assert shown.earned_at.ToSeconds() > 0
