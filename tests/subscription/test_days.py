"""The day that a test counts against is the UTC day on which its hold was placed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database
from homeroom.embedded.provisioning import ServiceDatabase
from tests.subscription.service import Subscriptions, refused

# Days on which clocks change in New York, Lord Howe (by half an hour), Berlin; Apia has skipped a whole day.
ZONES = [
    ("UTC", "2026-03-29"),
    ("Pacific/Kiritimati", "2026-03-29"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Europe/Berlin", "2026-03-29"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kathmandu", "2026-06-30"),
]


@pytest.fixture
async def elsewhere(
    request: pytest.FixtureRequest, subscription_database: ServiceDatabase, truth: Connection
) -> AsyncIterator[Subscriptions]:
    """The service on a database whose time zone is set to something else."""
    name = await truth.fetchval("SELECT current_database()")
    await truth.execute(f"ALTER DATABASE \"{name}\" SET timezone = '{request.param}'")
    database = await Database.connect(subscription_database.service, maximum=4)
    zone = await database.read(lambda c: c.fetchval("SHOW timezone"), deadline=time.monotonic() + 5.0)
    assert zone == request.param
    yield Subscriptions(database, truth)
    await database.close()


@pytest.mark.parametrize(("elsewhere", "day"), ZONES, indirect=["elsewhere"])
async def test_the_last_millisecond_bills_its_own_day_even_if_committed_tomorrow(
    elsewhere: Subscriptions, day: str
) -> None:
    subscriptions = elsewhere
    midnight = subscriptions.clock.set(f"{day}T00:00:00+00:00") + timedelta(days=1)
    subscriptions.clock.moment = midnight - timedelta(milliseconds=1)
    ann = await subscriptions.account("ann")
    last = await subscriptions.place(ann)
    assert last.day == day
    tests = (await subscriptions.entitlements(ann)).tests
    assert (tests.used, tests.held) == (0, 1)
    assert tests.resets_at.ToDatetime(UTC) == midnight

    subscriptions.clock.moment = midnight
    first = await subscriptions.place(ann)
    assert first.day == midnight.date().isoformat()
    await subscriptions.commit(last)
    tests = (await subscriptions.entitlements(ann)).tests
    assert (tests.used, tests.held, tests.remaining) == (0, 1, 2)
    assert tests.resets_at.ToDatetime(UTC) == midnight + timedelta(days=1)
    rows = await subscriptions.truth.fetch("SELECT day, held, used FROM daily_usage ORDER BY day")
    assert [(row["day"].isoformat(), row["held"], row["used"]) for row in rows] == [
        (day, 0, 1),
        (midnight.date().isoformat(), 1, 0),
    ]
    assert await subscriptions.discrepancies() == []


async def test_a_full_day_is_refused_until_the_very_moment_of_midnight(subscriptions: Subscriptions) -> None:
    subscriptions.clock.set("2026-03-28T23:59:59.999999+00:00")
    ann = await subscriptions.account("ann")
    for _ in range(3):
        await subscriptions.place(ann)
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.place(ann)
    assert refused(refusal.value, Reason.DAILY_LIMIT_REACHED)["resetsAt"] == "2026-03-29T00:00:00Z"
    subscriptions.clock.set("2026-03-29T00:00:00+00:00")
    for _ in range(3):
        await subscriptions.place(ann)
    with pytest.raises(ServiceError) as refusal:
        await subscriptions.place(ann)
    assert refused(refusal.value, Reason.DAILY_LIMIT_REACHED)["held"] == 3


async def test_a_release_on_another_day_gives_back_that_days_unit(subscriptions: Subscriptions) -> None:
    subscriptions.clock.set("2026-03-28T12:00:00+00:00")
    ann = await subscriptions.account("ann")
    hold = await subscriptions.place(ann)
    subscriptions.clock.set("2026-03-30T12:00:00+00:00")
    await subscriptions.place(ann)
    await subscriptions.release(hold)
    rows = await subscriptions.truth.fetch("SELECT held, used FROM daily_usage ORDER BY day")
    assert [tuple(row) for row in rows] == [(0, 0), (1, 0)]


async def test_without_a_pinned_clock_the_databases_own_day_counts(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    before = await subscriptions.truth.fetchval("SELECT (now() AT TIME ZONE 'utc')::date")
    hold = await subscriptions.place(ann)
    after = await subscriptions.truth.fetchval("SELECT (now() AT TIME ZONE 'utc')::date")
    assert before.isoformat() <= hold.day <= after.isoformat()
    assert abs(hold.placed_at.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(hours=1)
