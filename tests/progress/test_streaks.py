"""Streaks count consecutive UTC days, exactly, however late their sessions are told."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from chassis.postgres import Database
from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.domain.streaks import Run, streak_days
from tests.progress.conftest import Progress, progress_over
from tests.progress.results import abandoned, completed, learner

TODAY = date(2026, 3, 29)  # the day on which much of Europe moves its clocks
MIDNIGHT = datetime(2026, 3, 29, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def days_ago(days: int) -> date:
    return TODAY - timedelta(days=days)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (None, 0),
        (Run(TODAY, TODAY), 1),
        (Run(days_ago(1), days_ago(1)), 1),
        (Run(days_ago(2), days_ago(2)), 0),
        (Run(days_ago(9), TODAY), 10),
        (Run(days_ago(9), days_ago(1)), 9),
        (Run(days_ago(9), days_ago(2)), 0),
    ],
)
def test_a_streak_reaches_today_or_yesterday(run: Run | None, expected: int) -> None:
    assert streak_days(run, today=TODAY) == expected


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2, 4, 5])))
async def test_a_gap_ends_a_streak_in_whatever_order_the_days_are_told(
    progress: Progress, order: tuple[int, ...]
) -> None:
    ada = learner("ada")
    for ago in order:
        await progress.tell(completed(ada, f"s{ago}", closed_at=MIDNIGHT - timedelta(days=ago)))
    assert (await progress.stats(ada, today=TODAY)).streak_days == 3
    await progress.tell(completed(ada, "late", closed_at=MIDNIGHT - timedelta(days=3)))
    assert (await progress.stats(ada, today=TODAY)).streak_days == 6


async def test_the_last_tick_before_midnight_and_midnight_itself_are_two_days(progress: Progress) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1", closed_at=MIDNIGHT - TICK))
    assert (await progress.stats(ada, today=days_ago(1))).streak_days == 1
    assert (await progress.stats(ada, today=TODAY)).streak_days == 1
    assert (await progress.stats(ada, today=TODAY + timedelta(days=1))).streak_days == 0
    await progress.tell(completed(ada, "s2", closed_at=MIDNIGHT))
    assert (await progress.stats(ada, today=TODAY)).streak_days == 2


async def test_the_day_is_the_one_in_utc_whatever_zone_the_time_was_written_in(progress: Progress) -> None:
    ada = learner("ada")
    local = datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=2)))  # 23:30 UTC the day before
    await progress.tell(completed(ada, "s1", closed_at=local))
    assert [row["day"] for row in await progress.rows("activity_days", [ada])] == [days_ago(1)]


async def test_several_sessions_on_one_day_are_one_day(progress: Progress) -> None:
    ada = learner("ada")
    await progress.tell(*(completed(ada, f"s{n}", closed_at=MIDNIGHT + n * TICK) for n in range(5)))
    assert (await progress.stats(ada, today=TODAY)).streak_days == 1


async def test_a_session_that_was_not_completed_prolongs_nothing(progress: Progress) -> None:
    ada = learner("ada")
    await progress.tell(
        completed(ada, "s1", closed_at=MIDNIGHT - timedelta(days=1)), abandoned(ada, "s2", closed_at=MIDNIGHT)
    )
    assert (await progress.stats(ada, today=TODAY + timedelta(days=1))).streak_days == 0


async def test_a_day_that_has_not_begun_here_waits_for_its_turn(progress: Progress) -> None:
    ada = learner("ada")
    await progress.tell(
        completed(ada, "s1", closed_at=MIDNIGHT),
        completed(ada, "s2", closed_at=MIDNIGHT + timedelta(days=1)),  # the other clock is ahead of ours
    )
    assert (await progress.stats(ada, today=TODAY)).streak_days == 1
    assert (await progress.stats(ada, today=TODAY + timedelta(days=1))).streak_days == 2


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])  # a day ahead; a day behind
async def test_without_an_injected_day_the_database_says_which_day_it_is_in_utc(
    progress: Progress, progress_database: ServiceDatabase, zone: str
) -> None:
    name = await progress.truth.fetchval("SELECT current_database()")
    await progress.truth.execute(f"ALTER DATABASE \"{name}\" SET timezone = '{zone}'")
    elsewhere = await Database.connect(progress_database.service)
    try:
        progress = progress_over(elsewhere, progress.truth)
        streaks, expected = await streaks_of_today_and_yesterday(progress)
        if streaks != expected:  # midnight passed meanwhile: it does not do so twice in a row
            streaks, expected = await streaks_of_today_and_yesterday(progress)
        assert streaks == expected
    finally:
        await elsewhere.close()


async def streaks_of_today_and_yesterday(progress: Progress) -> tuple[list[int], list[int]]:
    """The streaks of learners active only two days ago, yesterday, today, tomorrow; and the right ones."""
    now: datetime = await progress.truth.fetchval("SELECT clock_timestamp()")
    streaks = []
    for days in (-2, -1, 0, 1):
        user_id = learner("ada")
        await progress.tell(completed(user_id, "s1", closed_at=now + timedelta(days=days)))
        streaks.append((await progress.stats(user_id)).streak_days)
    return streaks, [0, 1, 1, 0]
