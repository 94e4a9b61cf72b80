"""Licenses and progress keep in step: level-ups go there, what instructors advance comes here."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from progress_service.domain.license_changes import LicenseChange
from progress_service.domain.statistics import UserId
from progress_service.store.license_feed import LicenseFeedStore
from tests.progress.conftest import Progress, asked
from tests.progress.licenses import Licenses, following
from tests.progress.results import MIDDAY, completed, learner
from tests.progress.specializations import (
    Standing,
    achievements,
    orders,
    put_levels,
    specialization_name,
    standing,
)
from tests.support.waiting import eventually

LEVELS = 8
LADDER = [10 * step for step in range(LEVELS)]


async def told(progress: Progress) -> bool:
    """Whether every order has been delivered."""
    return bool(await progress.truth.fetchval("SELECT count(*) = 0 FROM outbox"))


async def followed(progress: Progress, licenses: Licenses) -> bool:
    """Whether every change of a license has had its effect."""
    position = await progress.truth.fetchval("SELECT sequence FROM license_feed_position")
    return bool(position == await licenses.last_sequence())


async def begun(progress: Progress, licenses: Licenses, user_id: UserId, specialization: str) -> None:
    """The learner has level 1, and so has the license."""
    await progress.tell(completed(user_id, "first", specialization=specialization, xp=5))
    await eventually(lambda: licenses.level(user_id, specialization))


@pytest.fixture
async def ladder(progress: Progress) -> str:
    name = specialization_name()
    await put_levels(progress.truth, name, LADDER)
    return name


async def test_a_level_up_reaches_the_license(progress: Progress, licenses: Licenses, ladder: str) -> None:
    ada = learner("ada")
    await licenses.accounts(ada)
    async with following(progress.database, licenses):
        await progress.tell(completed(ada, "s1", specialization=ladder, xp=25))
        await eventually(lambda: licenses.level(ada, ladder))
    assert await licenses.history(ada, ladder) == [(0, 3, 0)]


async def test_a_thousand_level_ups_during_an_absence_arrive_once_and_in_order(
    progress: Progress, licenses: Licenses, ladder: str
) -> None:
    learners = [learner() for _ in range(143)]  # each has seven level-ups to tell
    await licenses.accounts(*learners)
    await licenses.close()
    async with following(progress.database, licenses), following(progress.database, licenses):
        for step in range(LEVELS):
            await progress.tell(
                *(completed(each, f"s{step}", specialization=ladder, xp=10) for each in learners)
            )
        assert len(await progress.rows("outbox", learners)) == len(learners) * (LEVELS - 1)
        await licenses.open()
        await eventually(lambda: told(progress), seconds=60)
    # The first result brings level 2 at once; the last level is told by the seventh.
    steps = [(0, 2, 0), *((level, level + 1, 0) for level in range(2, LEVELS))]
    for each in learners:
        assert await licenses.history(each, ladder) == steps


async def test_what_an_instructor_advances_raises_the_level_without_xp(
    progress: Progress, licenses: Licenses, ladder: str
) -> None:
    ada = learner("ada")
    await licenses.accounts(ada)
    async with following(progress.database, licenses):
        await begun(progress, licenses, ada, ladder)
        version = (await progress.stats(ada)).statistics.version
        await licenses.advance(ada, ladder, 4)
        await eventually(lambda: followed(progress, licenses))
        assert await standing(progress.truth, ada, ladder) == Standing(5, 4, LEVELS, 4, 0)
        assert (await progress.stats(ada)).statistics.version == version + 1
        assert "first-level-up" in await achievements(progress.truth, ada)

        # Nothing comes back: the license has the level already.
        assert await orders(progress.truth, ada) == []
        assert await licenses.history(ada, ladder) == [(0, 1, 0), (1, 4, 0)]

        # XP for a level below it changes nothing, XP for a level above it does.
        await progress.tell(completed(ada, "s1", specialization=ladder, xp=10))
        assert await standing(progress.truth, ada, ladder) == Standing(15, 4, LEVELS, 4, 0)
        assert await told(progress)
        await progress.tell(completed(ada, "s2", specialization=ladder, xp=30))
        await eventually(lambda: followed(progress, licenses))
        await eventually(lambda: told(progress))
    assert await standing(progress.truth, ada, ladder) == Standing(45, 5, LEVELS, 4, 0)
    assert await licenses.history(ada, ladder) == [(0, 1, 0), (1, 4, 0), (4, 5, 0)]


async def test_two_replicas_that_follow_give_each_advance_its_effect_once(
    progress: Progress, licenses: Licenses, ladder: str
) -> None:
    learners = [learner() for _ in range(20)]
    await licenses.accounts(*learners)
    async with following(progress.database, licenses), following(progress.database, licenses):
        await progress.tell(*(completed(each, "s1", specialization=ladder, xp=5) for each in learners))
        await eventually(lambda: told(progress))
        for level in (2, 5):
            await asyncio.gather(*(licenses.advance(each, ladder, level) for each in learners))
        await eventually(lambda: followed(progress, licenses))
    changes = await licenses.changes()
    for each in learners:
        assert await standing(progress.truth, each, ladder) == Standing(5, 5, LEVELS, 5, 0)
        # One result, and one version for each of at most two effects: both may arrive together.
        assert (await progress.stats(each)).statistics.version in (2, 3)
    assert await told(progress)
    assert changes == 3 * len(learners)


async def test_a_change_has_no_effect_without_its_position_and_is_followed_after_a_fault(
    progress: Progress, licenses: Licenses, ladder: str
) -> None:
    ada = learner("ada")
    await licenses.accounts(ada)
    async with following(progress.database, licenses):
        await begun(progress, licenses, ada, ladder)
        await eventually(lambda: followed(progress, licenses))
    await progress.truth.execute(
        """
        CREATE SEQUENCE faults;
        GRANT USAGE ON SEQUENCE faults TO PUBLIC;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF nextval('faults') < 3 THEN RAISE 'the process dies here'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER fail BEFORE UPDATE ON license_feed_position FOR EACH ROW EXECUTE FUNCTION fail();
        """
    )
    await licenses.advance(ada, ladder, 3)
    version = (await progress.stats(ada)).statistics.version
    async with following(progress.database, licenses):
        await eventually(lambda: progress.truth.fetchval("SELECT is_called FROM faults"))
        await eventually(lambda: followed(progress, licenses), seconds=20)
    assert await progress.truth.fetchval("SELECT last_value FROM faults") == 3
    assert await standing(progress.truth, ada, ladder) == Standing(5, 3, LEVELS, 3, 0)
    assert (await progress.stats(ada)).statistics.version == version + 1


async def test_what_was_advanced_while_nobody_followed_is_found_later(
    progress: Progress, licenses: Licenses, ladder: str
) -> None:
    ada = learner("ada")
    await licenses.accounts(ada)
    async with following(progress.database, licenses):
        await begun(progress, licenses, ada, ladder)
    await licenses.advance(ada, ladder, 2)
    await licenses.advance(ada, ladder, 6)
    assert await standing(progress.truth, ada, ladder) == Standing(5, 1, LEVELS, 0, 0)
    async with following(progress.database, licenses):
        await eventually(lambda: followed(progress, licenses))
    assert await standing(progress.truth, ada, ladder) == Standing(5, 6, LEVELS, 6, 0)


async def test_the_following_outlives_the_neighbours_restarts(
    progress: Progress, licenses: Licenses, ladder: str
) -> None:
    ada = learner("ada")
    await licenses.accounts(ada)
    async with following(progress.database, licenses):
        await begun(progress, licenses, ada, ladder)
        for level in (2, 3):
            await licenses.close()
            await licenses.open()
            await licenses.advance(ada, ladder, level)
            await eventually(lambda: followed(progress, licenses))
    assert await standing(progress.truth, ada, ladder) == Standing(5, 3, LEVELS, 3, 0)


async def test_a_license_in_a_specialization_without_progress_brings_a_level_and_no_xp(
    progress: Progress, licenses: Licenses
) -> None:
    ada, unknown = learner("ada"), specialization_name("UNKNOWN")
    await licenses.accounts(ada)
    await licenses._subscriptions.apply_level(
        ada, unknown, 1, max_level=5
    )  # as another program may have done
    async with following(progress.database, licenses):
        await licenses.advance(ada, unknown, 2)
        await eventually(lambda: followed(progress, licenses))
    assert await standing(progress.truth, ada, unknown) == Standing(0, 2, 2, 2, 0)
    assert await told(progress)
    await progress.tell(completed(ada, "s1", specialization=unknown, closed_at=MIDDAY + timedelta(days=1)))
    assert await standing(progress.truth, ada, unknown) == Standing(10, 2, 2, 2, 0)


async def test_an_advance_in_what_the_learner_had_not_begun_at_a_reset_counts(
    progress: Progress, licenses: Licenses, ladder: str
) -> None:
    ada = learner("ada")
    await licenses.accounts(ada)
    await licenses._subscriptions.apply_level(ada, ladder, 1, max_level=LEVELS)  # as another program may
    await progress.truth.execute("INSERT INTO learner_statistics (user_id, epoch) VALUES ($1, 1)", ada)
    await progress.truth.execute(
        """
        INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)
        VALUES ($1, 1, 'all', '', 'root', 'a new season', '2025-01-03T00:00:00Z')
        """,
        ada,
    )
    async with following(progress.database, licenses):
        await licenses.advance(ada, ladder, 4)
        await eventually(lambda: licenses.in_step(progress.truth))
        assert await standing(progress.truth, ada, ladder) == Standing(0, 4, LEVELS, 4, 1)
        # The license belongs to the epoch from then on, so XP below its level takes nothing from it.
        await progress.tell(completed(ada, "s1", specialization=ladder, xp=10))
        await licenses.advance(ada, ladder, 5)
        await eventually(lambda: licenses.in_step(progress.truth))
    assert await standing(progress.truth, ada, ladder) == Standing(10, 5, LEVELS, 5, 1)
    assert await licenses.level(ada, ladder) == 5


async def test_a_license_is_told_the_higher_level_that_it_had_before_a_reset(
    progress: Progress, ladder: str
) -> None:
    ada = learner("ada")
    await progress.truth.execute("INSERT INTO learner_statistics (user_id, epoch) VALUES ($1, 1)", ada)
    await progress.truth.execute(
        """
        INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)
        VALUES ($1, 1, 'all', '', 'root', 'a new season', '2025-01-03T00:00:00Z')
        """,
        ada,
    )
    position = await progress.truth.fetchval("SELECT sequence FROM license_feed_position")
    changes = [
        LicenseChange(
            sequence=position + 1 + place,
            user_id=ada,
            specialization=ladder,
            level=level,
            max_level=LEVELS,
            epoch=epoch,
            advanced=True,
        )
        for place, (level, epoch) in enumerate([(4, 0), (1, 1)])
    ]
    followed = await LicenseFeedStore(progress.database).apply_changes(changes, deadline=asked(None).deadline)
    await progress.truth.execute("UPDATE license_feed_position SET sequence = $1", position)  # as it was
    assert followed.levels_told
    assert await standing(progress.truth, ada, ladder) == Standing(0, 4, LEVELS, 4, 1)
    (order,) = await orders(progress.truth, ada)
    assert (order.level, order.epoch) == (4, 1)
